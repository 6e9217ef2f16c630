"""What a training on several replicas is given: a learning rate, and rows in order."""

import numpy as np
import tensorflow as tf


def scale_learning_rate(base_learning_rate, global_batch_size, *, base_batch_size=256):
    """Scale a learning rate in proportion to the batch size.

    `base_learning_rate * global_batch_size / base_batch_size`: a step on a batch k
    times as large stands for k steps, so it goes k times as far. The rule is one for
    SGD; on ImageNet it held up to batches of 8,192 rows, with a warm-up in the first
    epochs.

    Args:
        base_learning_rate: A rate that trains well at `base_batch_size`.
        global_batch_size: Rows of one step, on all replicas together; at least 1.
        base_batch_size: Rows of one step for which the rate was chosen; at least 1.

    Returns:
        The learning rate, a float.

    Raises:
        ValueError: If a batch size is below 1.

    Reference:
        Goyal, Dollár, Girshick, Noordhuis, Wesolowski, Kyrola, Tulloch, Jia and He,
        2017, "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", section 2.1.
    """
    if global_batch_size < 1 or base_batch_size < 1:
        raise ValueError(
            "`global_batch_size` and `base_batch_size` must be at least 1. Received: "
            f"global_batch_size={global_batch_size}, base_batch_size={base_batch_size}."
        )
    return base_learning_rate * global_batch_size / base_batch_size


def shuffle_rows(x, y, *, epoch, seed=0):
    """Make a dataset of single rows, in an order that belongs to the epoch.

    The order depends on `epoch` and `seed` and on nothing else, so that all workers
    draw the same one, and a training that was interrupted draws it again.

    Args:
        x: Array of shape `(n, ...)`.
        y: Labels of shape `(n,)`.
        epoch: Number of the epoch, from 0.
        seed: Seed of the orders of all epochs, at least 0.

    Returns:
        A `tf.data.Dataset` of `n` pairs `(x, y)`, not batched.

    Raises:
        ValueError: If `x` and `y` differ in length.
    """
    if len(x) != len(y):
        raise ValueError(
            "`x` and `y` must have the same length. "
            f"Received: len(x)={len(x)}, len(y)={len(y)}."
        )
    order = np.random.default_rng([seed, epoch]).permutation(len(x))
    return tf.data.Dataset.from_tensor_slices(
        (np.asarray(x)[order], np.asarray(y)[order])
    )
