"""AdaBN: the statistics of BatchNormalization, taken anew from the target."""

import contextlib

import keras
import numpy as np


def adapt_batch_norm(model, images, *, batch_size=64, passes=1):
    """Replace the statistics of every BatchNormalization by the target's, in place.

    Each `moving_mean` and `moving_variance` becomes the mean and the variance of what
    enters that layer, pooled over all images; nothing is left of the source. No other
    weight and no flag changes, no label is needed, and the model need not be compiled
    again. Layers with `trainable = False` are adapted, too. Dropout is off.

    What enters a layer depends on the statistics of the layers before it, which are
    not known before the last image. Each batch is normalised by what has been pooled so
    far. So the first layer is always exact, and all are if the images are one batch.
    Otherwise later layers come near, the nearer the larger the batches; in a deep
    network take them large, or several passes.

    Args:
        model: A `keras.Model`; models and wrappers nested in it are treated, too.
        images: Array of shape `(n, ...)` of target inputs, at least one; hundreds,
            if a layer normalises features `(batch, d)`. No labels, but a class that is
            missing or rare shifts the statistics.
        batch_size: Images a step, as many as memory allows.
        passes: How often to go through the images, at least 1. All passes are pooled;
            more of them bring later layers nearer, slowly.

    Raises:
        ValueError: If the model has no BatchNormalization, there is no image or one
            that is not finite, or `batch_size` or `passes` is below 1.

    Reference:
        Li, Wang, Shi, Liu and Hou, 2016, "Revisiting Batch Normalization For Practical
        Domain Adaptation", algorithm 1.
    """

    def record(norm, inputs):
        x = np.moveaxis(inputs.numpy().astype("float64"), norm.axis, -1)
        x = x.reshape(-1, x.shape[-1])
        sums[norm] += [0 * x[0] + len(x), x.sum(axis=0), (x**2).sum(axis=0)]
        _, mean, square = sums[norm] / sums[norm][0]
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(np.maximum(square - mean**2, 0))

    layers, images = [model], np.asarray(images)
    for layer in layers:  # grows as it is walked: nested models, wrapped layers
        layers += getattr(layer, "layers", [])
        layers += [layer.layer] if isinstance(layer, keras.layers.Wrapper) else []
    norms = {x for x in layers if isinstance(x, keras.layers.BatchNormalization)}
    sizes = len(norms), len(images), batch_size, passes
    if min(sizes) < 1 or not np.isfinite(images).all():
        raise ValueError(
            "`model` must have BatchNormalization, `images` be finite, and the number "
            f"of both, `batch_size` and `passes` at least 1. Received: {sizes}."
        )
    with contextlib.ExitStack() as stack:
        for norm in norms:  # for a while, it looks at its inputs before it normalises
            norm.call = lambda x, norm=norm, **_: (
                record(norm, x) or type(norm).call(norm, x, training=False)
            )
            stack.callback(delattr, norm, "call")
        sums = {norm: np.zeros((3, len(norm.get_weights()[-1]))) for norm in norms}
        for start in [*range(0, len(images), batch_size)] * passes:
            model(images[start : start + batch_size], training=False)
