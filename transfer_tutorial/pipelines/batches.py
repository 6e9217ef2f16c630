"""Arrays to `tf.data.Dataset`."""

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
