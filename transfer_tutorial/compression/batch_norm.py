"""The same answers for less work: BatchNorm folded into the layers before it."""

import keras
import numpy as np


@keras.saving.register_keras_serializable(package="transfer_tutorial")
class FoldedBatchNormalization(keras.layers.Layer):
    """Stands where a BatchNormalization was, and passes its inputs on.

    Args:
        **kwargs: `name` and `dtype` of the layer.
    """

    def call(self, inputs, mask=None):
        """The inputs, unchanged."""
        return inputs

    def compute_output_shape(self, input_shape):
        """As the inputs'."""
        return input_shape


def fold_batch_norm(backbone):
    """Fold BatchNormalization into the convolutions and dense layers before it.

    At inference BatchNorm is one multiplication and one addition for each channel,
    which the kernel and the bias of the layer before it can do: the features stay the
    same but for rounding, and are extracted with less work. Fold for inference only:
    the result has no statistics left to train with.

    Args:
        backbone: A functional `keras.Model` with its pretrained weights; unchanged.

    Returns:
        A new `keras.Model` of the same name, inputs and features. Layers that took part
        are new, all others are shared. A BatchNormalization is kept where what it
        normalises comes from another kind of layer, goes through an activation first,
        or is used elsewhere, too.

    Raises:
        ValueError: If there is nothing to fold.

    Reference:
        Jacob, Kligys, Chen, Zhu, Tang, Howard, Adam and Kalenichenko, 2018,
        "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference".
    """
    kinds = keras.layers.Dense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D
    makers = {id(x.output): x for x in backbone.layers if type(x) in kinds}
    inputs = [id(t) for x in backbone.layers for t in keras.tree.flatten(x.input)]
    norms = {}
    for norm in backbone.layers:
        if isinstance(norm, keras.layers.BatchNormalization):
            maker, used = makers.get(id(norm.input)), inputs.count(id(norm.input))
            if maker and used == 1 and maker.activation is keras.activations.linear:
                norms[maker.name] = norm
    if not norms:
        raise ValueError(
            "`backbone` must have a BatchNormalization right behind a linear "
            f"convolution or dense layer. Received: {backbone.name!r}, without one."
        )
    folded = {norm.name for norm in norms.values()}

    def clone(layer):
        if layer.name in folded:
            return FoldedBatchNormalization(name=layer.name)
        if layer.name not in norms:
            return layer
        return type(layer).from_config(layer.get_config() | {"use_bias": True})

    result = keras.models.clone_model(backbone, clone_function=clone)
    for name, norm in norms.items():
        result.get_layer(name).set_weights(_fold(backbone.get_layer(name), norm))
    return result


def _fold(layer, norm):
    """Kernel and bias that do what `layer` and then `norm` do at inference."""
    kernel, *bias = layer.get_weights()
    pairs = zip(norm.weights, norm.get_weights(), strict=True)
    stored = {variable.name: value for variable, value in pairs}
    scale = stored.get("gamma", 1) / np.sqrt(stored["moving_variance"] + norm.epsilon)
    shape = scale.shape
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        shape = kernel.shape[2:]  # (channels, multiplier)
    offset = (bias[0] if bias else 0) - stored["moving_mean"]
    return [kernel * scale.reshape(shape), stored.get("beta", 0) + offset * scale]
