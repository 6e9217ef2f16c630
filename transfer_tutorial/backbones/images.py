"""Networks from scratch for images in 0...255, which they scale themselves."""

import keras


def build_mlp_backbone(input_shape, *, hidden_units=(128, 64), dropout=0.0):
    """Build a multilayer perceptron on the flattened input.

    Args:
        input_shape: Shape of one input without the batch axis, such as
            `(32, 32, 3)`. Values in 0...255.
        hidden_units: Width of each hidden layer; the last one is the number of
            features.
        dropout: Fraction of features dropped after each hidden layer, in [0, 1).

    Returns:
        An uncompiled `keras.Model` named `"mlp"`: `(batch, *input_shape)` to
        `(batch, hidden_units[-1])`.

    Raises:
        ValueError: If `hidden_units` is empty.
    """
    if not hidden_units:
        raise ValueError(
            "`hidden_units` must name at least one hidden layer. "
            f"Received: hidden_units={hidden_units}."
        )
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255, name="rescaling")(inputs)
    x = keras.layers.Flatten(name="flatten")(x)
    for index, units in enumerate(hidden_units, start=1):
        x = keras.layers.Dense(units, activation="relu", name=f"dense_{index}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{index}")(x)
    return keras.Model(inputs, x, name="mlp")


def build_cnn_backbone(input_shape, *, filters=(32, 64, 128)):
    """Build a plain convolutional network with batch normalisation.

    Each stage is convolution 3x3, BatchNorm, ReLU and max-pooling by 2; the
    features are the average over the remaining positions.

    Args:
        input_shape: Shape of one image, `(height, width, channels)`, values in
            0...255. Height and width at least `2 ** len(filters)` pixels.
        filters: Number of filters of each stage; the last one is the number of
            features.

    Returns:
        An uncompiled `keras.Model` named `"cnn"`: `(batch, *input_shape)` to
        `(batch, filters[-1])`.

    Raises:
        ValueError: If `filters` is empty or the image is too small to be halved
            once for each stage.
    """
    smallest = min(input_shape[0], input_shape[1])
    if not filters or smallest < 2 ** len(filters):
        raise ValueError(
            "`filters` must have one to log2(image side) stages, since each stage "
            "halves the image. "
            f"Received: filters={tuple(filters)} for input_shape={tuple(input_shape)}."
        )
    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    for index, width in enumerate(filters, start=1):
        # BatchNorm has its own offset, so the convolution needs no bias.
        x = keras.layers.Conv2D(
            width, 3, padding="same", use_bias=False, name=f"conv_{index}"
        )(x)
        # Momentum 0.9: at Keras' 0.99 the moving statistics still remember their
        # start after the few hundred steps that few labels give.
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"batch_norm_{index}")(x)
        x = keras.layers.ReLU(name=f"relu_{index}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool_{index}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(inputs, x, name="cnn")


def build_residual_backbone(input_shape, *, filters=(32, 64, 128), stem_strides=2):
    """Build a small residual network: one residual block a stage.

    The stem halves the image, and so does each stage but the first. A block is
    twice convolution 3x3 and BatchNorm, added to its input (through a 1x1
    convolution where the shape changes).

    Args:
        input_shape: Shape of one image, `(height, width, channels)`, values in
            0...255.
        filters: Number of filters of each stage; the last one is the number of
            features.
        stem_strides: 2 to halve the image in the stem; 1 to keep its size, for
            four times the arithmetic.

    Returns:
        An uncompiled `keras.Model` named `"residual_cnn"`:
        `(batch, *input_shape)` to `(batch, filters[-1])`.

    Raises:
        ValueError: If `filters` is empty.

    Reference:
        He, Zhang, Ren and Sun, 2016, "Deep Residual Learning for Image
        Recognition", section 3.
    """
    if not filters:
        raise ValueError(
            f"`filters` must name at least one stage. Received: filters={filters}."
        )

    def conv_norm(x, width, size, strides, name):
        x = keras.layers.Conv2D(
            width, size, strides, "same", use_bias=False, name=f"{name}_conv"
        )(x)
        # Momentum as in `build_cnn_backbone`, for the same reason.
        return keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_batch_norm")(
            x
        )

    inputs = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    x = conv_norm(x, filters[0], 3, stem_strides, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for index, width in enumerate(filters, start=1):
        name, strides = f"stage_{index}", 1 if index == 1 else 2
        shortcut = x if index == 1 else conv_norm(x, width, 1, 2, f"{name}_shortcut")
        y = conv_norm(x, width, 3, strides, f"{name}_first")
        y = keras.layers.ReLU(name=f"{name}_first_relu")(y)
        y = conv_norm(y, width, 3, 1, f"{name}_second")
        x = keras.layers.Add(name=f"{name}_add")([shortcut, y])
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(inputs, x, name="residual_cnn")
