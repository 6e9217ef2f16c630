"""How far apart two batches of features are, as differentiable losses."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="transfer_tutorial")
def coral_loss(source_features, target_features):
    """Deep CORAL: the squared distance of the covariances of two batches.

    `||C_s - C_t||_F^2 / (4 d^2)` with covariances that divide by `n - 1`. Means do not
    count: two batches that differ by a shift have loss 0. The scale is that of the
    features to the power of four, so the best weight depends on the backbone.

    Args:
        source_features: Float tensor of shape `(n, d)`.
        target_features: Float tensor of shape `(m, d)`, of the same type. A batch of
            one row has covariance 0.

    Returns:
        A scalar tensor, at least 0. NaN if a feature is NaN.

    Raises:
        ValueError: If the shapes are not `(n, d)` and `(m, d)`.

    Reference:
        Sun and Saenko, 2016, "Deep CORAL: Correlation Alignment for Deep Domain
        Adaptation", equations 1 to 3.
    """
    source = tf.convert_to_tensor(source_features)
    target = tf.convert_to_tensor(target_features)
    if source.shape.rank != 2 or source.shape[1:] != target.shape[1:]:
        raise ValueError(
            "`source_features` and `target_features` must be of shape (n, d) and "
            f"(m, d). Received: {source.shape} and {target.shape}."
        )

    def compute_covariance(x):
        x -= tf.reduce_mean(x, axis=0)
        rows = tf.maximum(tf.shape(x)[0], 2)
        return tf.matmul(x, x, transpose_a=True) / tf.cast(rows - 1, x.dtype)  # (d, d)

    difference = compute_covariance(source) - compute_covariance(target)
    return tf.reduce_sum(tf.square(difference)) / (4 * source.shape[1] ** 2)


@keras.saving.register_keras_serializable(package="transfer_tutorial")
def mmd_loss(
    source_features, target_features, *, bandwidths=(0.25, 0.5, 1.0, 2.0, 4.0)
):
    """Squared maximum mean discrepancy of two batches, mean of Gaussian kernels.

    `mean k(s, s') + mean k(t, t') - 2 mean k(s, t)` over all pairs, where
    `k(a, b)` is the mean of `exp(-||a - b||^2 / (b h))` over the bandwidths `b`, and
    `h` is the mean squared distance of all distinct pairs, a constant to the gradient.
    The paper takes the median; the mean needs no sorting and is 0 only if all
    rows are equal. A row is paired with itself, too: this biased estimate is 0
    for one batch twice and never negative (up to rounding), but above 0, by about
    `1/n + 1/m`, for two draws from one distribution.

    Args:
        source_features: Float tensor of shape `(n, d)`, n at least 1.
        target_features: Float tensor of shape `(m, d)`, m at least 1, of the same type.
        bandwidths: Positive multiples of `h`, at least one.

    Returns:
        A scalar tensor in [0, 2]; 0 if all rows are equal. NaN if a feature is NaN.

    Raises:
        ValueError: If the shapes are not `(n, d)` and `(m, d)`, or a bandwidth is not
            positive and finite.

    Reference:
        Long, Cao, Wang and Jordan, 2015, "Learning Transferable Features with Deep
        Adaptation Networks", section 3. Gretton, Borgwardt, Rasch, Schölkopf and Smola,
        2012, "A Kernel Two-Sample Test", section 2 (the biased estimate).
    """
    source = tf.convert_to_tensor(source_features)
    target = tf.convert_to_tensor(target_features)
    if source.shape.rank != 2 or source.shape[1:] != target.shape[1:]:
        raise ValueError(
            "`source_features` and `target_features` must be of shape (n, d) and "
            f"(m, d). Received: {source.shape} and {target.shape}."
        )
    if not bandwidths or not all(0 < b < float("inf") for b in bandwidths):
        raise ValueError(
            "`bandwidths` must be positive and finite, at least one. "
            f"Received: bandwidths={bandwidths}."
        )
    rows = tf.concat([source, target], axis=0)
    size = tf.reduce_mean(tf.reduce_sum(tf.square(rows), axis=1))
    rows -= tf.reduce_mean(rows, axis=0)  # changes no distance, and spares digits
    norms = tf.reduce_sum(tf.square(rows), axis=1)
    distances = norms[:, None] + norms - 2 * tf.matmul(rows, rows, transpose_b=True)
    distances = tf.maximum(distances, 0.0)  # (n + m, n + m), squared
    count = tf.cast(tf.shape(rows)[0], rows.dtype)
    mean = tf.stop_gradient(tf.reduce_sum(distances) / (count * (count - 1)))
    mean = tf.where(mean > 1e-12 * size, mean, 1.0)  # rows equal up to rounding
    kernel = sum(tf.exp(-distances / (b * mean)) for b in bandwidths) / len(bandwidths)
    n = tf.shape(source)[0]
    within = tf.reduce_mean(kernel[:n, :n]) + tf.reduce_mean(kernel[n:, n:])
    return within - 2 * tf.reduce_mean(kernel[:n, n:])
