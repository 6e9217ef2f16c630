"""Probabilities to scores."""

import numpy as np
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
