"""Is a probability of 0.8 right in 8 of 10 cases? Measured, and repaired."""

import numpy as np
from scipy import optimize, special


def reliability_bins(y_true, probabilities, *, num_bins=15):
    """Group predictions by confidence, for a reliability diagram.

    Args:
        y_true: Integer labels of shape `(n,)`.
        probabilities: Array of shape `(n, num_classes)`; rows sum to 1.
        num_bins: Bins of equal width over [0, 1].

    Returns:
        `(confidence, accuracy, count)` of shape `(num_bins,)`: mean probability of the
        predicted class, fraction right (both NaN in an empty bin), and predictions.

    Raises:
        ValueError: If the shapes disagree, rows do not sum to 1, or `num_bins` is
            below 1.

    Reference:
        Guo, Pleiss, Sun and Weinberger, 2017, "On Calibration of Modern Neural
        Networks", section 2.
    """
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or y_true.shape != probabilities.shape[:1]:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes) with one label a row. "
            f"Received: {probabilities.shape} for labels of shape {y_true.shape}."
        )
    if num_bins < 1:
        raise ValueError(f"`num_bins` must be at least 1. Received: {num_bins}.")
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}."
        )
    top = probabilities.max(axis=1)
    bins = np.minimum((top * num_bins).astype(int), num_bins - 1)
    count = np.bincount(bins, minlength=num_bins)
    right = probabilities.argmax(axis=1) == y_true
    with np.errstate(invalid="ignore"):  # 0 / 0 in an empty bin is NaN by design
        confidence = np.bincount(bins, top, minlength=num_bins) / count
        accuracy = np.bincount(bins, right, minlength=num_bins) / count
    return confidence, accuracy, count


def expected_calibration_error(y_true, probabilities, *, num_bins=15):
    """Mean gap between confidence and accuracy, weighted by the size of the bins.

    `sum over bins of count / n * |accuracy - confidence|`.

    Args:
        y_true: Integer labels of shape `(n,)`, n at least 1.
        probabilities: Array of shape `(n, num_classes)`; rows sum to 1.
        num_bins: Bins of equal width over [0, 1].

    Returns:
        A float in [0, 1]; lower is better.

    Raises:
        ValueError: As `reliability_bins`, or if there is no row.

    Reference:
        Guo, Pleiss, Sun and Weinberger, 2017, "On Calibration of Modern Neural
        Networks", equation 3.
    """
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or y_true.shape != probabilities.shape[:1]:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes) with one label a row. "
            f"Received: {probabilities.shape} for labels of shape {y_true.shape}."
        )
    if len(y_true) == 0 or num_bins < 1:
        raise ValueError(
            "`y_true` must have at least one row, `num_bins` be at least 1. "
            f"Received: {len(y_true)} rows, {num_bins=}."
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or probabilities.min() < 0:
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}."
        )
    top = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == y_true
    bins = np.minimum((top * num_bins).astype(int), num_bins - 1)
    # count / n * |accuracy - confidence|, with the counts cancelled
    return float(np.abs(np.bincount(bins, right - top)).sum() / len(y_true))


def fit_temperature(probabilities, y_true):
    """Find the temperature that calibrates a classifier best, on validation rows.

    The temperature T minimises the mean negative log-likelihood of
    `softmax(log(probabilities) / T)`. These logarithms equal the logits up to a
    constant in each row, which the softmax cancels, so no logits are needed.

    Args:
        probabilities: Array of shape `(n, num_classes)`; rows sum to 1. Take the
            validation rows: on training rows the classifier is too sure of itself,
            and test rows are for the score. Below 1.2e-38, the smallest normal
            float32, a probability counts as that.
        y_true: Integer labels of shape `(n,)`, n at least 1.

    Returns:
        A float in [0.05, 20]: above 1 for a classifier that is too sure, below 1 for
        one that is not sure enough.

    Raises:
        ValueError: If the shapes disagree, there is no row, rows do not sum to 1, or
            a label is outside the classes.

    Reference:
        Guo, Pleiss, Sun and Weinberger, 2017, "On Calibration of Modern Neural
        Networks", section 4.2.
    """
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities, "float64")
    shape = probabilities.shape
    if len(shape) != 2 or y_true.shape != shape[:1] or len(y_true) == 0:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes), n at least 1, with one "
            f"label a row. Received: {shape} for labels of shape {y_true.shape}."
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or probabilities.min() < 0:
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}."
        )
    if not np.isin(y_true, np.arange(shape[1])).all():
        raise ValueError(
            f"`y_true` must be in 0...{shape[1] - 1}, the classes of `probabilities`. "
            f"Received: {np.unique(y_true).tolist()}."
        )
    logits = np.log(np.maximum(probabilities, np.finfo("float32").tiny))
    right = logits[np.arange(len(y_true)), y_true.astype(int)]  # (n,)

    def measure_loss(log_temperature):
        beta = np.exp(-log_temperature)  # the loss is convex in 1 / T: one minimum
        return np.mean(special.logsumexp(beta * logits, axis=1) - beta * right)

    bounds = np.log([0.05, 20])
    return float(np.exp(optimize.minimize_scalar(measure_loss, bounds=bounds).x))


def apply_temperature(probabilities, temperature):
    """Soften or sharpen probabilities: `softmax(log(probabilities) / temperature)`.

    The order of the classes stays as it is, and so does the accuracy.

    Args:
        probabilities: Array of shape `(n, num_classes)`; rows sum to 1. Below
            1.2e-38, the smallest normal float32, a probability counts as that.
        temperature: Positive number; above 1 softens, below 1 sharpens, 1 changes
            nothing. `fit_temperature` finds it.

    Returns:
        Float64 array of shape `(n, num_classes)`; rows sum to 1.

    Raises:
        ValueError: If `probabilities` has no such shape or rows that do not sum to 1,
            or `temperature` is not positive and finite.

    Reference:
        Guo, Pleiss, Sun and Weinberger, 2017, "On Calibration of Modern Neural
        Networks", section 4.2.
    """
    probabilities = np.asarray(probabilities, "float64")
    if probabilities.ndim != 2:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes). "
            f"Received: {probabilities.shape}."
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}."
        )
    if not 0 < temperature < np.inf:
        raise ValueError(
            f"`temperature` must be positive and finite. Received: {temperature}."
        )
    logits = np.log(np.maximum(probabilities, np.finfo("float32").tiny))
    logits -= logits.max(axis=1, keepdims=True)  # so that no exponential overflows
    odds = np.exp(logits / temperature)
    return odds / odds.sum(axis=1, keepdims=True)
