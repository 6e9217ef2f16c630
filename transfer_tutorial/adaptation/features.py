"""Closed forms on arrays: CORAL's map of the features, and pseudo-labels."""

import numpy as np


def align_coral(source_features, target_features, *, regularization=1.0):
    """Give source features the covariance and the mean of target features (CORAL).

    `(x - mean_s) C_s^(-1/2) C_t^(1/2) + mean_t`, where each `C` is a covariance
    plus `regularization` times the identity. Train on the answer with the source's
    labels, then predict on the *unchanged* target features. No label of the target is
    used. The paper standardises both domains first, so that its means are 0; here the
    means are moved, too. Do standardise if the features are far from unit scale:
    a regularisation that is large beside the variances changes little.

    Args:
        source_features: Array of shape `(n, d)`, n at least 2.
        target_features: Array of shape `(m, d)`, m at least 2.
        regularization: What is added to every variance; positive. The smaller it is,
            the closer the covariances come, and the more noise is amplified.

    Returns:
        Float64 array of shape `(n, d)`. A feature that is constant in the source is
        constant in the answer if it is uncorrelated with the others in the target.

    Raises:
        ValueError: If the widths differ, a domain has fewer than two rows, a feature
            is not finite, or `regularization` is not positive and finite.

    Reference:
        Sun, Feng and Saenko, 2016, "Return of Frustratingly Easy Domain Adaptation",
        algorithm 1.
    """
    source = np.asarray(source_features, "float64")
    target = np.asarray(target_features, "float64")
    for name, x in (("source_features", source), ("target_features", target)):
        if x.ndim != 2 or len(x) < 2 or x.size == 0 or not np.isfinite(x).all():
            raise ValueError(
                f"`{name}` must be finite and of shape (n, d), n at least 2. Received: "
                f"shape {x.shape}, {np.sum(~np.isfinite(x))} values not finite."
            )
    if source.shape[1] != target.shape[1]:
        raise ValueError(
            "`source_features` and `target_features` must have the same width. "
            f"Received: {source.shape[1]} and {target.shape[1]}."
        )
    if not 0 < regularization < np.inf:
        raise ValueError(
            "`regularization` must be positive and finite. "
            f"Received: regularization={regularization}."
        )

    def raise_covariance(x, exponent):
        covariance = np.atleast_2d(np.cov(x, rowvar=False))  # (d, d)
        values, vectors = np.linalg.eigh(
            covariance + regularization * np.eye(x.shape[1])
        )
        values = np.maximum(values, regularization)  # against rounding
        return (vectors * values**exponent) @ vectors.T

    white = (source - source.mean(axis=0)) @ raise_covariance(source, -0.5)
    return white @ raise_covariance(target, 0.5) + target.mean(axis=0)


def select_pseudo_labels(probabilities, *, threshold=0.9):
    """Take the confident predictions on unlabelled rows as labels.

    A wrong label that is confident is taken as well: look at the calibration first
    (`fit_temperature`). A class without a confident row is missing in the answer, and
    a model that is trained on it forgets that class.

    Args:
        probabilities: Array of shape `(n, num_classes)`; rows sum to 1.
        threshold: Smallest probability of the predicted class to accept, in [0, 1].

    Returns:
        `(rows, labels)`, two int64 arrays of the same length: row numbers in ascending
        order and the predicted classes. Both are empty if no row is confident.

    Raises:
        ValueError: If `probabilities` has another shape or rows that do not sum to 1,
            or `threshold` is outside [0, 1].

    Reference:
        Lee, 2013, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning
        Method for Deep Neural Networks".
    """
    probabilities = np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or probabilities.shape[1] < 1:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes). "
            f"Received: {probabilities.shape}."
        )
    wrong = np.abs(probabilities.sum(axis=1) - 1) >= 1e-3
    wrong |= ~(probabilities >= 0).all(axis=1)  # true for NaN, too
    if wrong.any():
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row {wrong.argmax()} is {probabilities[wrong.argmax()]}."
        )
    if not 0 <= threshold <= 1:
        raise ValueError(f"`threshold` must be in [0, 1]. Received: {threshold}.")
    rows = np.flatnonzero(probabilities.max(axis=1) >= threshold)
    return rows, probabilities[rows].argmax(axis=1)
