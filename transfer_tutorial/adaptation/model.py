"""Training on a labelled source and an unlabelled target at once."""

import keras
import numpy as np
import tensorflow as tf


def pair_domains(x_source, y_source, x_target, *, batch_size=32, seed=0):
    """Make a dataset of source and target batches, for `AdaptationModel.fit`.

    Both domains are shuffled anew in every epoch, independently of each other. An epoch
    goes through the longer domain once; the shorter is repeated, in a new order each
    time. All batches are full, so a rest of the longer domain is left out.

    Args:
        x_source: Array of shape `(n, ...)`.
        y_source: Integer labels of shape `(n,)`.
        x_target: Array of shape `(m, ...)`, rows of the same shape as in the source.
            Images in 0...255, as every backbone of this package takes them.
        batch_size: Rows of *each* domain in a batch.
        seed: Seed of both orders.

    Returns:
        A dataset of `((x_source, y_source), x_target)` batches.

    Raises:
        ValueError: If lengths or shapes disagree, a domain has fewer rows than
            `batch_size`, that is below 1, a value is not finite, or a domain holds
            float images that were already scaled to 0...1.
    """
    x_source, y_source, x_target = map(np.asarray, (x_source, y_source, x_target))
    if len(x_source) != len(y_source) or x_source.shape[1:] != x_target.shape[1:]:
        raise ValueError(
            "`y_source` must have one label a row of `x_source`, and `x_target` rows "
            f"of the same shape. Received: {x_source.shape}, {y_source.shape} and "
            f"{x_target.shape}."
        )
    for name, x in (("x_source", x_source), ("x_target", x_target)):
        if not 1 <= batch_size <= len(x):
            raise ValueError(
                f"`batch_size` must be in 1...{len(x)}, the number of rows of "
                f"`{name}`. Received: batch_size={batch_size}."
            )
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinity.")
        if x.dtype.kind == "f" and x.ndim == 4 and 0 < x.max() <= 1:
            raise ValueError(
                f"`{name}` must hold images in 0...255: the backbone scales them "
                f"itself. Received: images with maximum {x.max():.3g}."
            )
    # Two seeds: with one, equally long domains would be paired row by row.
    source = tf.data.Dataset.from_tensor_slices((x_source, y_source))
    source = source.shuffle(len(x_source), seed=seed).repeat()
    target = tf.data.Dataset.from_tensor_slices(x_target)
    target = target.shuffle(len(x_target), seed=seed + 1).repeat()
    pairs = tf.data.Dataset.zip((source, target)).batch(batch_size, drop_remainder=True)
    return pairs.take(max(len(x_source), len(x_target)) // batch_size).prefetch(2)


class AdaptationModel(keras.Model):
    """A classifier that learns from source labels while its features are aligned.

    Every step minimises `loss + weight * alignment`: the compiled loss on a source
    batch plus how far apart the features of the source and of the target batch are.
    Compile it as any classifier, and `fit` it, with `shuffle=False`, on the batches
    `((x_source, y_source), x_target)` of `pair_domains`. Outside of `fit` it *is* the
    classifier: `predict(x)`, `evaluate(x, y)` and `validation_data=(x, y)` work as
    ever. Its logs show `loss`, without the alignment, so that it compares with
    `val_loss`, and `alignment`, without the weight.

    `model.classifier` is the plain classifier with the same weights: save that one.
    `model.weight` is a variable; a callback may `assign` to it during training.

    BatchNormalization normalises each domain by its own batch while it trains, but its
    moving statistics become a mixture. Freeze it, or call
    `adapt_batch_norm(model, x_target)` before you predict on the target.

    If a class is missing in the target, or has another share there, features can only
    be aligned by mixing classes: then a smaller weight, or 0, is often better.

    One device only: Keras builds a model for several from `(x, y)` batches.

    Args:
        backbone: A `keras.Model`, inputs to features of shape `(batch, d)`; its weights
            are shared, not copied.
        head: A layer, features to probabilities, such as
            `classifier.get_layer("head")`; or the number of classes, for a new one.
        alignment: Any callable `(source_features, target_features) -> scalar` on
            float32 tensors, such as `coral_loss` or `mmd_loss`. The weights of one that
            is a layer, such as a `DomainDiscriminator`, are trained as well.
        weight: Weight of the alignment, at least 0 and finite. With 0 the weights
            learn as in plain training; only moving statistics see the target.
        **kwargs: `name` of the model.

    Raises:
        ValueError: If the backbone's output is not of shape `(batch, d)`, there are
            fewer than two classes, `weight` is negative or not finite, `alignment`
            cannot be called or returns no scalar, or `fit` gets other batches.

    Reference:
        Ganin, Ustinova, Ajakan, Germain, Larochelle, Laviolette, Marchand and
        Lempitsky, 2016, "Domain-Adversarial Training of Neural Networks"; Sun and
        Saenko, 2016, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation".
    """

    def __init__(self, backbone, head, alignment, *, weight=1.0, **kwargs):
        shape = backbone.output_shape
        if len(shape) != 2:
            raise ValueError(
                "`backbone` must return features of shape (batch, d). "
                f"Received: output shape {shape}."
            )
        is_new = isinstance(head, int | np.integer)  # a number of classes
        if (is_new and head < 2) or not 0 <= weight < float("inf"):
            raise ValueError(
                "`head` must have at least 2 classes, and `weight` be at least 0 and "
                f"finite. Received: head={head}, weight={weight}."
            )
        found = alignment(*[tf.zeros((2, shape[1]))] * 2)  # creates a layer's weights
        if tf.convert_to_tensor(found).shape != ():
            raise ValueError(f"`alignment` must return a scalar. Received: {found}.")
        super().__init__(**kwargs)
        if is_new:
            options = {"activation": "softmax", "dtype": "float32", "name": "head"}
            head = keras.layers.Dense(head, **options)
        inputs = keras.Input(backbone.input_shape[1:], dtype=backbone.inputs[0].dtype)
        name = f"{backbone.name}_classifier"
        self.classifier = keras.Model(inputs, head(backbone(inputs)), name=name)
        self.backbone, self.head, self.alignment = backbone, head, alignment
        self.alignment_tracker = keras.metrics.Mean(name="alignment")
        start = keras.initializers.Constant(weight)
        self.weight = self.add_weight((), start, trainable=False, name="weight")
        self.built = True

    def call(self, inputs, training=None):
        """Probabilities of shape `(batch, num_classes)`."""
        return self.classifier(inputs, training=training)

    def train_step(self, data):
        """One step on a `((x_source, y_source), x_target)` batch."""
        if len(data) != 2 or not isinstance(data[0], tuple) or len(data[0]) != 2:
            raise ValueError(
                "`fit` needs batches of ((x_source, y_source), x_target), as "
                f"`pair_domains` makes them. Received: {data}."
            )
        (x_source, y_source), x_target = data
        with tf.GradientTape() as tape:
            source_features = self.backbone(x_source, training=True)
            target_features = self.backbone(x_target, training=True)
            probabilities = self.head(source_features)
            loss = self.compute_loss(x_source, y_source, probabilities)
            alignment = self.alignment(
                tf.cast(source_features, "float32"), tf.cast(target_features, "float32")
            )
            total = self.optimizer.scale_loss(loss + self.weight * alignment)
        variables = self.trainable_variables
        gradients = tape.gradient(total, variables)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        self.alignment_tracker.update_state(alignment)
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=tf.shape(x_source)[0])
        return self.compute_metrics(x_source, y_source, probabilities)

    def test_step(self, data):
        """One step of `evaluate`, on an `(x, y)` batch."""
        logs = super().test_step(data)
        logs.pop("alignment")  # one domain alone has none
        return logs
