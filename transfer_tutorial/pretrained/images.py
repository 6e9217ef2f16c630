"""Pretrained on images: EfficientNet-Lite0 (ImageNet) and our own source CNN.

Both take raw images in 0...255 and return features; both can be given back the
head that they were trained with. Where the weights come from, and under which
licence, stands in `weights/SOURCES.md`.
"""

import hashlib
import io
import numbers
import pathlib

import keras
import numpy as np

_WEIGHTS = pathlib.Path(__file__).parent.parent / "weights"


def _load_weights(layers, name):
    """Fill `layers` from a bundled file, checked against `SHA256SUMS`, in place.

    The file holds one array for each weight, named `"layer/weight"`.
    """
    path = _WEIGHTS / name
    repair = (
        "Reinstall the package, or run "
        f"`python tools/build_weights.py {path.stem}` in a checkout."
    )
    for needed in (path, _WEIGHTS / "SHA256SUMS"):
        if not needed.is_file():
            raise FileNotFoundError(f"The bundled file {needed} is missing. {repair}")
    content = path.read_bytes()
    lines = (_WEIGHTS / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    expected = {line.split()[1]: line.split()[0] for line in lines}
    if hashlib.sha256(content).hexdigest() != expected.get(name):
        raise OSError(f"The bundled file {path} is damaged (SHA-256 differs). {repair}")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        for layer in layers:
            for variable in layer.weights:
                variable.assign(stored[f"{layer.name}/{variable.name}"])


def _conv_norm(x, filters, size, strides, name, *, depthwise=False, relu6=True):
    """Convolution without bias, BatchNorm and, but for projections, ReLU6."""
    options = dict(padding="same", use_bias=False, name=f"{name}_conv")
    if depthwise:
        x = keras.layers.DepthwiseConv2D(size, strides, **options)(x)
    else:
        x = keras.layers.Conv2D(filters, size, strides, **options)(x)
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_batch_norm")(x)
    return keras.layers.ReLU(6, name=f"{name}_relu6")(x) if relu6 else x


def _inverted_residual(x, filters, size, strides, name):
    """Expand the channels by 6 (not in the first block), filter each, project."""
    shortcut, width = x, x.shape[-1]
    if name != "block_1":
        x = _conv_norm(x, 6 * width, 1, 1, f"{name}_expand")
    x = _conv_norm(x, None, size, strides, f"{name}_depthwise", depthwise=True)
    x = _conv_norm(x, filters, 1, 1, f"{name}_project", relu6=False)
    if strides == 1 and filters == width:
        x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return x


def build_efficientnet_lite0_backbone(image_size=96, *, weights="imagenet"):
    """Build EfficientNet-Lite0, trained on ImageNet, with 1,280 features.

    A stem, sixteen inverted residual blocks (expand 1x1, depthwise, project 1x1)
    and a 1x1 convolution at the top; BatchNorm after each convolution. The layers
    are named `stem_*`, `block_1_*` ... `block_16_*` and `top_*`. Images of any size
    are resized (the middle of one that is not square) and scaled inside.

    Args:
        image_size: Side in pixels to which images are resized, at least 32. The
            weights were trained at 224; smaller is faster and less accurate.
        weights: `"imagenet"` for the shipped weights, `None` for random ones.

    Returns:
        An uncompiled `keras.Model` named `"efficientnet_lite0"`: images of shape
        `(batch, height, width, 3)`, RGB in 0...255, to features `(batch, 1280)`.

    Raises:
        ValueError: If `image_size` is too small or `weights` is unknown.
        FileNotFoundError: If the shipped weights are missing.
        OSError: If the shipped weights are damaged.

    Reference:
        Tan and Le, 2019, "EfficientNet: Rethinking Model Scaling for Convolutional
        Neural Networks", table 1 (B0; the Lite variant has no squeeze-and-excitation
        and uses ReLU6).
    """
    if image_size < 32:
        raise ValueError(
            "`image_size` must be at least 32, since the network divides it by 32. "
            f"Received: image_size={image_size}."
        )
    if weights not in ("imagenet", None):
        raise ValueError(
            f'`weights` must be "imagenet" or None. Received: weights={weights!r}.'
        )

    inputs = keras.Input((None, None, 3), name="images")
    options = dict(crop_to_aspect_ratio=True, name="resizing")
    # In `backbone(x)` Keras 3.15 takes the default of this layer, training=True, for
    # all layers behind it: batch norm would use, and learn, the statistics of x.
    x = keras.layers.Resizing(image_size, image_size, **options)(inputs, training=False)
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="rescaling")(x)
    x = _conv_norm(x, 32, 3, 2, "stem")
    widths = [16] + 2 * [24] + 2 * [40] + 3 * [80] + 3 * [112] + 4 * [192] + [320]
    for block, filters in enumerate(widths, start=1):
        size = 5 if filters in (40, 112, 192) else 3
        strides = 2 if filters in (24, 40, 80, 192) and filters != x.shape[-1] else 1
        x = _inverted_residual(x, filters, size, strides, f"block_{block}")
    x = _conv_norm(x, 1280, 1, 1, "top")
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    backbone = keras.Model(inputs, x, name="efficientnet_lite0")
    if weights == "imagenet":
        _load_weights(backbone.layers, "efficientnet_lite0.npz")
    return backbone


def attach_imagenet_head(backbone):
    """Give EfficientNet-Lite0 back the head that it was trained with.

    Args:
        backbone: What `build_efficientnet_lite0_backbone` returned. Its weights
            are shared, not copied.

    Returns:
        An uncompiled `keras.Model`: images of shape `(batch, height, width, 3)` in
        0...255 to probabilities `(batch, 1000)` in ImageNet's usual class order.

    Raises:
        ValueError: If `backbone` is another network.
        FileNotFoundError: If the shipped weights are missing.
        OSError: If the shipped weights are damaged.
    """
    if backbone.name != "efficientnet_lite0" or backbone.output_shape[1:] != (1280,):
        raise ValueError(
            "`backbone` must come from `build_efficientnet_lite0_backbone`. "
            f"Received: {backbone.name!r} with output shape {backbone.output_shape}."
        )
    inputs = keras.Input((None, None, 3), name="images")
    head = keras.layers.Dense(1000, activation="softmax", dtype="float32", name="head")
    outputs = head(backbone(inputs))
    _load_weights([head], "efficientnet_lite0.npz")
    return keras.Model(inputs, outputs, name="efficientnet_lite0_imagenet")


def _small_conv_norm(x, filters, size, strides, name):
    """Convolution without bias and BatchNorm, as the source CNN has them."""
    options = dict(padding="same", use_bias=False, name=f"{name}_conv")
    x = keras.layers.Conv2D(filters, size, strides, **options)(x)
    # Momentum 0.9, for whoever trains it on few images (see `backbones`).
    options = dict(momentum=0.9, name=f"{name}_batch_norm")
    return keras.layers.BatchNormalization(**options)(x)


def build_source_cnn_backbone(*, image_size=32, weights="cifar10"):
    """Build our small residual CNN, trained on six classes of CIFAR-10, 128 features.

    The same network as `build_residual_backbone((32, 32, 3))`. It was trained on
    the 30,000 training images of airplane, bird, dog, frog, horse and truck; it has
    never seen an automobile, cat, deer or ship.

    Args:
        image_size: Side of the square images in pixels, at least 4, or `None` for
            images of any size. The weights are the same; they were learnt at 32.
            Half the side takes a quarter of the multiplications.
        weights: `"cifar10"` for the shipped weights, `None` for random ones.

    Returns:
        An uncompiled `keras.Model` named `"source_cnn"`: images of shape
        `(batch, image_size, image_size, 3)`, RGB in 0...255, to features
        `(batch, 128)`.

    Raises:
        ValueError: If `weights` is unknown or `image_size` is not a whole number
            of at least 4.
        FileNotFoundError: If the shipped weights are missing.
        OSError: If the shipped weights are damaged.

    Reference:
        He, Zhang, Ren and Sun, 2016, "Deep Residual Learning for Image
        Recognition", section 3.
    """
    if weights not in ("cifar10", None):
        raise ValueError(
            f'`weights` must be "cifar10" or None. Received: weights={weights!r}.'
        )
    whole = isinstance(image_size, numbers.Integral) and image_size >= 4
    if not whole and image_size is not None:
        raise ValueError(
            "`image_size` must be a whole number of at least 4, or None. "
            f"Received: image_size={image_size!r}."
        )

    inputs = keras.Input((image_size, image_size, 3), name="images")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="rescaling")(inputs)
    x = _small_conv_norm(x, 32, 3, 2, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    for stage, filters, strides in [(1, 32, 1), (2, 64, 2), (3, 128, 2)]:
        name, shortcut = f"stage_{stage}", x
        if strides == 2:
            shortcut = _small_conv_norm(x, filters, 1, 2, f"{name}_shortcut")
        y = _small_conv_norm(x, filters, 3, strides, f"{name}_first")
        y = keras.layers.ReLU(name=f"{name}_first_relu")(y)
        y = _small_conv_norm(y, filters, 3, 1, f"{name}_second")
        x = keras.layers.Add(name=f"{name}_add")([shortcut, y])
        x = keras.layers.ReLU(name=f"{name}_relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    backbone = keras.Model(inputs, x, name="source_cnn")
    if weights == "cifar10":
        _load_weights(backbone.layers, "source_cnn.npz")
    return backbone


def attach_source_head(backbone):
    """Give the source CNN back the head that it was trained with.

    Args:
        backbone: What `build_source_cnn_backbone` returned. Its weights are
            shared, not copied.

    Returns:
        An uncompiled `keras.Model`: the images that the backbone takes, in 0...255,
        to probabilities `(batch, 6)` of airplane, bird, dog, frog, horse, truck.

    Raises:
        ValueError: If `backbone` is another network.
        FileNotFoundError: If the shipped weights are missing.
        OSError: If the shipped weights are damaged.
    """
    if backbone.name != "source_cnn" or backbone.output_shape[1:] != (128,):
        raise ValueError(
            "`backbone` must come from `build_source_cnn_backbone`. "
            f"Received: {backbone.name!r} with output shape {backbone.output_shape}."
        )
    inputs = keras.Input(backbone.input_shape[1:], name="images")
    head = keras.layers.Dense(6, activation="softmax", dtype="float32", name="head")
    outputs = head(backbone(inputs))
    _load_weights([head], "source_cnn.npz")
    return keras.Model(inputs, outputs, name="source_cnn_classifier")
