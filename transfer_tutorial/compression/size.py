"""What a network costs, counted from its shapes, and weights that it can spare."""

import keras
import numpy as np


def count_multiply_adds(model):
    """Count the multiplications (each with its addition) that one input costs.

    A dense layer or a convolution does one for each weight of a filter at each position
    of its output; what it costs depends on the shapes alone, not on the machine. Not
    counted are biases, activations, pooling and BatchNorm, which `fold_batch_norm`
    removes: together a few per cent in most networks.

    Args:
        model: A functional or sequential `keras.Model` of layers `Dense`, `Conv1D`
            to `Conv3D`, `DepthwiseConv1D` and `2D`, normalisation and layers without
            weights; models in it are counted, too.

    Returns:
        The number as an int.

    Raises:
        ValueError: If an output's shape is not known, or a layer is of a kind whose
            cost this function does not know (recurrent, attention, shared).
    """
    convolutions = keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D
    depthwise = keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += count_multiply_adds(layer)
            continue
        if all(len(weight.shape) < 2 for weight in layer.weights):
            continue  # nothing, or one number for each channel
        if type(layer) not in (keras.layers.Dense, *convolutions, *depthwise):
            raise ValueError(
                "`model` must have dense layers and convolutions only. "
                f"Received: {layer.name!r}, a {type(layer).__name__}."
            )
        # A filter: (..., channels in) without the last axis, the channels out. One of
        # a depthwise convolution looks at one channel only.
        axes = -2 if type(layer) in depthwise else -1
        if len(layer._inbound_nodes) > 1 or None in layer.output.shape[1:]:
            raise ValueError(
                "`model` must use each layer once, on inputs of a known shape. "
                f"Received: {layer.name!r}."
            )
        per_output = np.prod(layer.weights[0].shape[:axes], dtype="int64")
        total += int(per_output * np.prod(layer.output.shape[1:], dtype="int64"))
    return total


def prune_by_magnitude(model, sparsity):
    """Set the smallest weights of each kernel to zero, in place, in one go.

    Smallest by magnitude, in each kernel the same share. Biases and BatchNorm stay.
    The zeros are stored and multiplied like all other numbers: the file gets smaller
    once it is compressed (gzip), the work does not. Training goes on from the zeros
    and fills them again.

    Args:
        model: A `keras.Model`.
        sparsity: Share of the weights of each kernel to set to zero, in [0, 1];
            the number is rounded.

    Returns:
        The share of zeros among all parameters of the model, biases included.

    Raises:
        ValueError: If `sparsity` is outside [0, 1].

    Reference:
        Zhu and Gupta, 2017, "To prune, or not to prune: exploring the efficacy of
        pruning for model compression", section 3; theirs prunes gradually while
        training goes on.
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(f"`sparsity` must be in [0, 1]. Received: {sparsity}.")
    zeros = total = 0
    weights = [np.array(weight) for weight in model.get_weights()]
    for weight in weights:
        if weight.ndim >= 2:
            order = np.argsort(np.abs(weight), axis=None, kind="stable")
            weight.flat[order[: round(sparsity * weight.size)]] = 0
        zeros, total = zeros + int(np.sum(weight == 0)), total + weight.size
    model.set_weights(weights)
    return zeros / max(total, 1)
