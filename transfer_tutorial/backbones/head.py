"""The head that makes a classifier of a backbone."""

import keras


def attach_head(backbone, num_classes, *, dropout=0.0):
    """Attach a new softmax layer to a backbone and return the classifier.

    The classifier *shares* the backbone's weights: training one changes the
    other, and several heads may sit on one backbone. It holds the backbone as
    one layer, `classifier.get_layer(backbone.name)`.

    Args:
        backbone: A `keras.Model`, inputs to features of shape `(batch, d)`.
        num_classes: Number of classes, at least 2.
        dropout: Fraction of features dropped before the head, in [0, 1).

    Returns:
        An uncompiled `keras.Model`: inputs to probabilities of shape
        `(batch, num_classes)`. Its last layer is named `"head"`.

    Raises:
        ValueError: If `num_classes` is below 2, or the backbone's output is not
            of shape `(batch, d)`.
    """
    if num_classes < 2:
        raise ValueError(
            "`num_classes` must be at least 2 (softmax over one class is always 1). "
            f"Received: num_classes={num_classes}."
        )
    if len(backbone.output_shape) != 2:
        raise ValueError(
            "`backbone` must return features of shape (batch, d). "
            f"Received: output shape {backbone.output_shape}."
        )
    inputs = keras.Input(backbone.input_shape[1:], dtype=backbone.inputs[0].dtype)
    features = backbone(inputs)
    if dropout:
        features = keras.layers.Dropout(dropout, name="head_dropout")(features)
    # float32 also under mixed precision: a softmax in half precision loses digits.
    probabilities = keras.layers.Dense(
        num_classes, activation="softmax", dtype="float32", name="head"
    )(features)
    return keras.Model(inputs, probabilities, name=f"{backbone.name}_classifier")
