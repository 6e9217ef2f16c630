"""How far would a number move with other test rows, or with other seeds?"""

import numpy as np
from scipy import stats


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
