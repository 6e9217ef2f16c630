"""Probabilities to numbers, and numbers to a verdict; no TensorFlow is loaded."""

import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score


def classification_scores(y_true, probabilities):
    """Score a classifier's probabilities in four ways.

    Args:
        y_true: Integer labels of shape `(n,)`; every class must occur, or the
            one-vs-rest ROC-AUC of the missing class is undefined.
        probabilities: Array of shape `(n, num_classes)`; rows sum to 1.

    Returns:
        A dict of floats in [0, 1]: `accuracy`, `macro_f1`, `roc_auc_ovr` (mean over
        the classes, one against the rest), all better when higher, and
        `expected_calibration_error` (15 bins), better when lower.

    Raises:
        ValueError: If the shapes disagree, rows do not sum to 1, a label is outside
            the classes, or a class is missing from `y_true`.
    """
    y_true, probabilities = np.asarray(y_true), np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or y_true.shape != probabilities.shape[:1]:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes) with one label a row. "
            f"Received: {probabilities.shape} for labels of shape {y_true.shape}."
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}, "
            f"minimum {probabilities.min():.4g}. Are they logits?"
        )
    num_classes = probabilities.shape[1]
    if set(np.unique(y_true).tolist()) != set(range(num_classes)):
        raise ValueError(
            f"`y_true` must contain every class in 0...{num_classes - 1} and no other. "
            f"Received: {np.unique(y_true).tolist()}."
        )
    y_pred = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = np.bincount(bins, confidence - (y_pred == y_true), minlength=15)
    areas = [roc_auc_score(y_true == c, p) for c, p in enumerate(probabilities.T)]
    return {
        "accuracy": float(accuracy_score(y_true, y_pred)),
        "macro_f1": float(f1_score(y_true, y_pred, average="macro")),
        "roc_auc_ovr": float(np.mean(areas)),
        "expected_calibration_error": float(np.abs(gaps).sum() / len(y_true)),
    }


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


def bootstrap_interval(
    metric, y_true, y_pred, *, confidence=0.95, num_resamples=1000, seed=0
):
    """Percentile bootstrap interval of a metric over the rows of one test set.

    It covers the chance of drawing these test rows, not other seeds of training.

    Args:
        metric: Function `(y_true, y_pred) -> float`.
        y_true: Array whose first axis has the n test rows.
        y_pred: Predictions, labels or probabilities, for the same rows.
        confidence: Coverage aimed at, in (0, 1).
        num_resamples: Resamples drawn with replacement.
        seed: Seed of the resamples.

    Returns:
        `(low, high)`.

    Raises:
        ValueError: If the lengths differ or are 0, or `confidence` is outside (0, 1).

    Reference:
        Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
    if len(y_true) != len(y_pred) or len(y_true) == 0 or not 0 < confidence < 1:
        raise ValueError(
            "`y_true` and `y_pred` must have the same length, at least 1, and "
            "`confidence` must be in (0, 1). Received: "
            f"{len(y_true)} and {len(y_pred)} rows, confidence={confidence}."
        )
    rng = np.random.default_rng(seed)
    resamples = rng.integers(len(y_true), size=(num_resamples, len(y_true)))
    scores = [metric(y_true[rows], y_pred[rows]) for rows in resamples]
    tail = (1 - confidence) / 2
    return tuple(np.quantile(scores, [tail, 1 - tail]).tolist())


def paired_bootstrap_interval(
    metric, y_true, y_pred_a, y_pred_b, *, confidence=0.95, num_resamples=1000, seed=0
):
    """Bootstrap interval of `metric(b) - metric(a)` on the same test rows.

    Both models are scored on the same resample. An interval above 0 says that model
    b is better on such test rows.

    Args:
        metric: Function `(y_true, y_pred) -> float`.
        y_true: Array whose first axis has the n test rows.
        y_pred_a: Predictions of model a for these rows.
        y_pred_b: Predictions of model b for these rows.
        confidence: Coverage aimed at, in (0, 1).
        num_resamples: Resamples drawn with replacement.
        seed: Seed of the resamples.

    Returns:
        `(low, high)`.

    Raises:
        ValueError: If the lengths differ or are 0, or `confidence` is outside (0, 1).

    Reference:
        Efron and Tibshirani, 1993, "An Introduction to the Bootstrap", chapter 13.
    """
    y_true, a, b = np.asarray(y_true), np.asarray(y_pred_a), np.asarray(y_pred_b)
    if not len(y_true) == len(a) == len(b) > 0 or not 0 < confidence < 1:
        raise ValueError(
            "`y_true`, `y_pred_a` and `y_pred_b` must have the same length, at least "
            "1, and `confidence` must be in (0, 1). Received: "
            f"{len(y_true)}, {len(a)} and {len(b)} rows, confidence={confidence}."
        )
    rng = np.random.default_rng(seed)
    resamples = rng.integers(len(y_true), size=(num_resamples, len(y_true)))
    gains = [metric(y_true[r], b[r]) - metric(y_true[r], a[r]) for r in resamples]
    tail = (1 - confidence) / 2
    return tuple(np.quantile(gains, [tail, 1 - tail]).tolist())


def seed_interval(scores, *, confidence=0.95):
    """Student-t interval of the mean score over seeds.

    It covers the chance of another draw of labels, initial weights and order of
    batches, as far as the seeds vary them; not the chance in the test rows.

    Args:
        scores: One score a seed, at least two.
        confidence: Coverage aimed at, in (0, 1).

    Returns:
        `(low, high)`, symmetric around the mean.

    Raises:
        ValueError: If there are fewer than two scores, one is not finite, or
            `confidence` is outside (0, 1).

    Reference:
        Student, 1908, "The Probable Error of a Mean".
    """
    scores = np.asarray(scores, "float64")
    if scores.ndim != 1 or len(scores) < 2 or not np.isfinite(scores).all():
        raise ValueError(
            "`scores` must hold one finite score for each of at least two seeds. "
            f"Received: {scores.tolist()}."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1). Received: {confidence}.")
    standard_error = scores.std(ddof=1) / np.sqrt(len(scores))
    margin = standard_error * stats.t.ppf((1 + confidence) / 2, len(scores) - 1)
    return float(scores.mean() - margin), float(scores.mean() + margin)


def compare_paired(baseline_scores, transfer_scores, *, confidence=0.95):
    """Did transfer help? The verdict on paired scores, one pair a seed.

    The interval is Student's t over the differences. The verdict is "gain" when it
    lies above 0, "negative transfer" when it lies below, else "no evidence".

    Args:
        baseline_scores: Scores without transfer, one a seed, at least two; higher
            must be better.
        transfer_scores: Scores with transfer, for the same seeds in the same order.
        confidence: Coverage aimed at, in (0, 1).

    Returns:
        A dict: `difference` (mean, transfer minus baseline), `low`, `high`, `verdict`.

    Raises:
        ValueError: If the lengths differ, there are fewer than two pairs, a score is
            not finite, or `confidence` is outside (0, 1).
    """
    baseline = np.asarray(baseline_scores, "float64")
    transfer = np.asarray(transfer_scores, "float64")
    if baseline.shape != transfer.shape or baseline.ndim != 1 or len(baseline) < 2:
        raise ValueError(
            "`baseline_scores` and `transfer_scores` must be paired, one score for "
            "each of at least two seeds. "
            f"Received: shapes {baseline.shape} and {transfer.shape}."
        )
    gains = transfer - baseline
    if not np.isfinite(gains).all() or not 0 < confidence < 1:
        raise ValueError(
            "`baseline_scores` and `transfer_scores` must be finite, and `confidence` "
            f"in (0, 1). Received: differences {gains.tolist()}, {confidence=}."
        )
    margin = stats.t.ppf((1 + confidence) / 2, len(gains) - 1)
    margin *= gains.std(ddof=1) / np.sqrt(len(gains))
    low, high = gains.mean() - margin, gains.mean() + margin
    verdict = "gain" if low > 0 else "negative transfer" if high < 0 else "no evidence"
    return {
        "difference": float(gains.mean()),
        "low": float(low),
        "high": float(high),
        "verdict": verdict,
    }
