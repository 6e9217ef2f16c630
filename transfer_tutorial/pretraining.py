"""Pretraining without labels: SimCLR, and an autoencoder.

Both train any backbone on pictures alone. What surrounds it while it learns, the
projection head or the decoder, is thrown away afterwards: the result is the backbone,
whose weights have moved.
"""

import keras
import numpy as np
import tensorflow as tf


def augment_views(images, seed, *, smallest_crop=0.25, flip=True, jitter=0.4, grey=0.2):
    """Draw a random view of each image: a crop, mirrored or not, in other colours.

    A crop has the aspect ratio of the image, a random share of its area, and is
    stretched to full size. Colours change by three factors, each drawn from
    1 - `jitter` ... 1 + `jitter`: a gain for each channel, then the saturation, then
    the contrast. The paper also varies the aspect ratio, turns the hue where we have
    gains, and blurs large pictures.

    The function keeps no state: one seed gives the same views for ever.

    Args:
        images: Tensor of shape `(batch, height, width, channels)`, in 0...255.
        seed: Two integers.
        smallest_crop: Smallest share of the area that a view shows, in (0, 1]; with 1
            nothing is cropped.
        flip: Mirror half of the views, left to right.
        jitter: Strength of the changes of colour, in [0, 1); 0 for none.
        grey: Share of the views that lose their colours, in [0, 1].

    Returns:
        A float32 tensor of the same shape and range.

    Raises:
        ValueError: If `images` has another rank, or a share is out of its range.

    Reference:
        Chen, Kornblith, Norouzi and Hinton, 2020, "A Simple Framework for Contrastive
        Learning of Visual Representations", section 3.
    """
    images = tf.cast(images, "float32")
    if images.shape.rank != 4:
        raise ValueError(
            "`images` must have shape (batch, height, width, channels). "
            f"Received: {images.shape}."
        )
    if not (0 < smallest_crop <= 1 and 0 <= jitter < 1 and 0 <= grey <= 1):
        raise ValueError(
            "`smallest_crop` must be in (0, 1], `jitter` in [0, 1), `grey` in [0, 1]. "
            f"Received: {smallest_crop=}, {jitter=}, {grey=}."
        )
    n, channels = tf.shape(images)[0], images.shape[3]
    draws = tf.random.stateless_uniform((n, 7 + channels), seed)
    side = tf.sqrt(smallest_crop + (1 - smallest_crop) * draws[:, 0])
    top, left = (draws[:, i] * (1 - side) for i in (1, 2))
    mirror = tf.where(tf.logical_and(flip, draws[:, 3] < 0.5), side, 0.0)
    # A box that runs from right to left gives a mirror image.
    boxes = tf.stack([top, left + mirror, top + side, left + side - mirror], axis=1)
    x = tf.image.crop_and_resize(images, boxes, tf.range(n), tf.shape(images)[1:3])
    factors = (1 + jitter * (2 * draws - 1))[:, tf.newaxis, tf.newaxis]
    x = tf.minimum(x * factors[..., 7:], 255.0)
    saturation = tf.where(draws[:, 4] < grey, 0.0, factors[:, 0, 0, 5])
    lightness = tf.reduce_mean(x, axis=3, keepdims=True)
    x = lightness + (x - lightness) * saturation[:, tf.newaxis, tf.newaxis, tf.newaxis]
    middle = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
    return tf.clip_by_value(middle + (x - middle) * factors[..., 6:7], 0.0, 255.0)


def pair_views(x, augmentation, *, batch_size=128, seed=0):
    """Make a dataset of two random views of each picture, for `nt_xent_loss`.

    Pictures come in a new order, and views are drawn anew, in every epoch. All batches
    are full, so a rest of the pictures is left out of an epoch.

    Args:
        x: Images of shape `(n, height, width, channels)`, in 0...255; no labels. Or
            other inputs `(n, ...)`, with an augmentation that fits.
        augmentation: Function `(inputs, seed) -> inputs` of TensorFlow operations,
            such as `augment_views`; it gets a batch and a tensor of two integers.
        batch_size: Pictures in a batch, at least 2; each has two views.
        seed: Seed of the order and of the views.

    Returns:
        A dataset of `(views, pictures)` batches. `views` has `2 * batch_size` rows:
        the first views of all pictures, then the second ones. `pictures` has shape
        `(2 * batch_size,)`: which picture of the batch a view shows, from 0.

    Raises:
        ValueError: If `batch_size` is below 2 or above `n`, a value is not finite, or
            `x` holds float images that were already scaled to 0...1.
    """
    x = np.asarray(x)
    if not 2 <= batch_size <= len(x):
        raise ValueError(
            f"`batch_size` must be in 2...{len(x)}, the number of rows of `x`; one "
            f"picture has nothing to differ from. Received: batch_size={batch_size}."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        raise ValueError("`x` must be finite. Received: NaN or infinity.")
    if x.dtype.kind == "f" and x.ndim == 4 and 0 < x.max() <= 1:
        raise ValueError(
            "`x` must hold images in 0...255: the backbone scales them itself. "
            f"Received: {x.dtype} images with maximum {x.max():.3g}."
        )

    def draw(images, number):
        views = [augmentation(images, tf.stack([number, view])) for view in (0, 1)]
        return tf.concat(views, axis=0), tf.tile(tf.range(batch_size), [2])

    order = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x), seed=seed)
    numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    batches = order.batch(batch_size, drop_remainder=True)
    return tf.data.Dataset.zip((batches, numbers)).map(draw).prefetch(2)


def attach_projection_head(backbone, *, hidden_units=128, units=64):
    """Attach the head that SimCLR trains with and then throws away.

    A hidden layer with ReLU, then a linear one. The backbone's weights are shared, not
    copied: train the whole with `nt_xent_loss`, and go on with the backbone alone.

    Args:
        backbone: A `keras.Model`, inputs to features of shape `(batch, d)`.
        hidden_units: Width of the hidden layer.
        units: Width of the projection, in which the loss compares views.

    Returns:
        An uncompiled `keras.Model`: inputs to projections of shape `(batch, units)`.

    Raises:
        ValueError: If a width is below 1, or the backbone's output is not of shape
            `(batch, d)`.

    Reference:
        Chen, Kornblith, Norouzi and Hinton, 2020, "A Simple Framework for Contrastive
        Learning of Visual Representations", section 4.2.
    """
    if min(hidden_units, units) < 1 or len(backbone.output_shape) != 2:
        raise ValueError(
            "`hidden_units` and `units` must be at least 1, and `backbone` return "
            "features of shape (batch, d). Received: "
            f"{hidden_units=}, {units=}, output shape {backbone.output_shape}."
        )
    inputs = keras.Input(backbone.input_shape[1:], dtype=backbone.inputs[0].dtype)
    hidden = keras.layers.Dense(hidden_units, "relu", name="projection_hidden")
    # float32 also under mixed precision: the loss divides by a small temperature.
    projection = keras.layers.Dense(units, dtype="float32", name="projection")
    outputs = projection(hidden(backbone(inputs)))
    return keras.Model(inputs, outputs, name=f"{backbone.name}_projector")


@keras.saving.register_keras_serializable(package="transfer_tutorial")
def nt_xent_loss(pictures, projections, temperature=0.5):
    """NT-Xent: each view has to find the other view of its picture in the batch.

    For view i and its partner j: `-log(exp(s_ij) / sum of exp(s_ik) over all k != i)`
    with `s` the cosine similarities divided by `temperature`. Of 2N views, 2N - 2 are
    wrong answers. Guessing costs `log(2N - 1)`.

    The order of the arguments is that of a Keras loss: a model that ends in
    `attach_projection_head` learns with `model.compile(optimizer, nt_xent_loss)` and
    `model.fit(pair_views(...))`. For another temperature, `functools.partial`.

    If more than two rows have one number, the mean over all partners is taken. Given
    labels instead of pictures, this is the supervised contrastive loss.

    Args:
        pictures: Integers of shape `(batch,)`, the same for views of one picture.
        projections: Float tensor of shape `(batch, d)`; rows need not have length 1.
        temperature: Positive number; the smaller, the more the most similar wrong
            answers count.

    Returns:
        A float tensor of shape `(batch,)`, at least 0, in nats; its mean is the loss of
        the paper. NaN if a projection is NaN; 0 for a row without a partner.

    Raises:
        ValueError: If the shapes are not `(batch,)` and `(batch, d)`, `temperature` is
            not positive and finite, or, outside of `fit`, no two pictures differ or a
            row has no partner.

    Reference:
        Chen, Kornblith, Norouzi and Hinton, 2020, "A Simple Framework for Contrastive
        Learning of Visual Representations", equation 1. For several partners: Khosla
        et al., 2020, "Supervised Contrastive Learning", equation 2.
    """
    z = tf.convert_to_tensor(projections)
    z = tf.cast(z, "float64" if z.dtype == tf.float64 else "float32")
    pictures = tf.convert_to_tensor(pictures)
    if z.shape.rank != 2 or not pictures.shape.is_compatible_with(z.shape[:1]):
        raise ValueError(
            "`pictures` and `projections` must have shapes (batch,) and (batch, d). "
            f"Received: {pictures.shape} and {z.shape}."
        )
    if not 0 < temperature < float("inf"):
        raise ValueError(
            f"`temperature` must be positive and finite. Received: {temperature}."
        )
    same = pictures[:, tf.newaxis] == pictures
    partner = tf.linalg.set_diag(tf.cast(same, z.dtype), tf.zeros_like(z[:, 0]))
    count = tf.reduce_sum(partner, axis=1)
    alone = tf.get_static_value(tf.reduce_any(count < 1))  # None within `fit`
    if alone or tf.get_static_value(tf.reduce_all(same)):
        raise ValueError(
            "`pictures` must name two or more pictures, each at least twice. "
            f"Received: {pictures}."
        )
    z = tf.math.l2_normalize(z, axis=1)
    similarity = tf.matmul(z, z, transpose_b=True) / max(temperature, 1e-30)
    itself = tf.fill(tf.shape(z)[:1], z.dtype.min)
    log_p = tf.nn.log_softmax(tf.linalg.set_diag(similarity, itself))
    return -tf.reduce_sum(partner * log_p, axis=1) / tf.maximum(count, 1)


def build_autoencoder(backbone, *, filters=(64, 32, 16)):
    """Attach a decoder that rebuilds the image from the backbone's features.

    The features are the bottleneck: what they do not hold, the decoder cannot know.
    They become a small map of `filters[0]` channels, which each stage doubles in size
    (a transposed convolution 3x3 with ReLU); a last convolution gives the channels.
    The backbone's weights are shared, not copied: train with
    `autoencoder.compile(optimizer, "mse")` and `autoencoder.fit(x, x)`, and go on with
    the backbone alone.

    Args:
        backbone: A `keras.Model`, images in 0...255 of a fixed shape
            `(height, width, channels)` to features of shape `(batch, d)`.
        filters: Channels of each stage. Height and width must be multiples of
            `2 ** len(filters)`.

    Returns:
        An uncompiled `keras.Model`: images in 0...255 to images in 0...255, both of
        shape `(batch, height, width, channels)`.

    Raises:
        ValueError: If the backbone has other inputs or outputs, `filters` is empty, or
            its stages do not fit the height and the width.
    """
    shape, step = backbone.input_shape[1:], 2 ** len(filters)
    if len(shape) != 3 or None in shape or len(backbone.output_shape) != 2:
        raise ValueError(
            "`backbone` must map images of a fixed shape (height, width, channels) to "
            f"features (batch, d). Received: {shape} to {backbone.output_shape}."
        )
    if not filters or min(filters) < 1 or shape[0] % step or shape[1] % step:
        raise ValueError(
            "`filters` must have a stage, widths of at least 1, and halve height and "
            f"width without a rest. Received: filters={filters} for {shape}."
        )
    inputs = keras.Input(shape, dtype=backbone.inputs[0].dtype)
    small = (shape[0] // step, shape[1] // step, filters[0])
    x = keras.layers.Dense(int(np.prod(small)), "relu", name="decoder_map")(
        backbone(inputs)
    )
    x = keras.layers.Reshape(small, name="decoder_reshape")(x)
    options = dict(strides=2, padding="same", activation="relu")
    for i, width in enumerate(filters, start=1):
        stage = keras.layers.Conv2DTranspose(width, 3, name=f"decoder_{i}", **options)
        x = stage(x)
    options = dict(padding="same", activation="sigmoid", dtype="float32")
    x = keras.layers.Conv2D(shape[2], 3, name="decoder_channels", **options)(x)
    x = keras.layers.Rescaling(255.0, dtype="float32", name="decoder_range")(x)
    return keras.Model(inputs, x, name=f"{backbone.name}_autoencoder")
