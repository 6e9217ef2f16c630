"""Arrays to `tf.data.Dataset`, and random augmentation of training images."""

import keras
import numpy as np
import tensorflow as tf


def make_dataset(x, y=None, *, batch_size=32, shuffle=False, seed=0):
    """Make a batched and prefetched `tf.data.Dataset` from arrays.

    Augment by `dataset.map` *after* this function, and never before a `cache()`:
    a cached augmentation is drawn once and repeated in every epoch.

    Args:
        x: Array of shape `(n, ...)`. Images in 0...255, as every backbone of this
            package takes them.
        y: Labels of shape `(n,)`, or None for unlabelled rows.
        batch_size: Rows a batch; the last batch may be smaller.
        shuffle: Draw a new order in every epoch. For training only.
        seed: Seed of the order.

    Returns:
        A dataset of `(x, y)` batches, or of `x` batches where `y` is None.

    Raises:
        ValueError: If `x` is empty, `x` and `y` differ in length, `batch_size` is
            below 1, or `x` holds float images that were already scaled to 0...1.
    """
    x = np.asarray(x)
    if len(x) == 0 or batch_size < 1:
        raise ValueError(
            "`x` must have at least one row and `batch_size` must be at least 1. "
            f"Received: len(x)={len(x)}, batch_size={batch_size}."
        )
    if y is not None and len(x) != len(y):
        raise ValueError(
            "`x` and `y` must have the same length. "
            f"Received: len(x)={len(x)}, len(y)={len(y)}."
        )
    if x.ndim == 4 and x.dtype.kind == "f" and 0 < x.max() <= 1:
        raise ValueError(
            "`x` must hold images in 0...255: the backbone scales them itself. "
            f"Received: {x.dtype} images with maximum {x.max():.3g}."
        )
    dataset = tf.data.Dataset.from_tensor_slices(x if y is None else (x, np.asarray(y)))
    if shuffle:
        dataset = dataset.shuffle(len(x), seed=seed)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def build_augmentation(*, flip="horizontal", rotation=0.05, zoom=0.1, seed=0):
    """Build random flips, rotations and zooms for training images.

    The result changes images only when called with `training=True`. Map it over
    the training dataset, never over validation or test data:
    `dataset.map(lambda x, y: (augmentation(x, training=True), y))`.

    Args:
        flip: `"horizontal"`, `"vertical"`, `"horizontal_and_vertical"`, or None.
        rotation: Largest rotation as a fraction of a full turn, in [0, 1].
        zoom: Largest change of size as a fraction, in [0, 1].
        seed: Seed of the random draws.

    Returns:
        A `keras.Sequential`: images `(batch, height, width, channels)` in 0...255
        to float32 images of the same shape and range.

    Raises:
        ValueError: If `flip` is none of the four, `rotation` or `zoom` is outside
            [0, 1], or nothing is left to do.
    """
    flips = ("horizontal", "vertical", "horizontal_and_vertical", None)
    if flip not in flips:  # Keras would silently flip nothing
        raise ValueError(f"`flip` must be one of {flips}. Received: {flip!r}.")
    if not (0 <= rotation <= 1 and 0 <= zoom <= 1):
        raise ValueError(
            "`rotation` and `zoom` must be fractions in [0, 1]. "
            f"Received: rotation={rotation}, zoom={zoom}."
        )
    layers = []
    if flip is not None:
        layers.append(keras.layers.RandomFlip(flip, seed=seed))
    if rotation:
        layers.append(keras.layers.RandomRotation(rotation, "nearest", seed=seed + 1))
    if zoom:
        layers.append(keras.layers.RandomZoom(zoom, fill_mode="nearest", seed=seed + 2))
    if not layers:
        raise ValueError(
            "At least one of `flip`, `rotation` and `zoom` must be on. "
            f"Received: flip={flip}, rotation={rotation}, zoom={zoom}."
        )
    return keras.Sequential(layers, name="augmentation")
