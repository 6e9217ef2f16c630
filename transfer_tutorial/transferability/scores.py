"""How alike two sets of features are, and how well they suit the labels of a task."""

import numpy as np
from scipy import optimize
from sklearn.covariance import ledoit_wolf_shrinkage


def linear_cka(features_a, features_b):
    """Linear centred kernel alignment of two views of the same inputs.

    1 when one view is a rotation, shift and scaling of the other; near 0 when they
    have nothing linear in common and the rows far outnumber the features.

    Args:
        features_a: Array of shape `(n, d)`.
        features_b: Array of shape `(n, e)`, rows in the same order.

    Returns:
        A float in [0, 1].

    Raises:
        ValueError: If the numbers of rows differ, a view is empty or not finite, or
            all rows of one view are equal.

    Reference:
        Kornblith, Norouzi, Lee and Hinton, 2019, "Similarity of Neural Network
        Representations Revisited", section 3.
    """
    a, b = np.asarray(features_a, "float64"), np.asarray(features_b, "float64")
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b) or 0 in a.shape + b.shape:
        raise ValueError(
            "`features_a` and `features_b` must be of shape (n, d) and (n, e), none of "
            f"them 0. Received: {a.shape} and {b.shape}."
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(
            "`features_a` and `features_b` must be finite. Received: NaN or infinity."
        )
    # A constant feature becomes exactly 0; halved first, no difference overflows.
    a, b = (x / 2 - x[0] / 2 for x in (a, b))
    if not (a.any() and b.any()):
        raise ValueError(
            "`features_a` and `features_b` must vary over the rows. "
            "Received: a view whose rows are all equal."
        )
    a, b = (x / np.abs(x).max() for x in (a, b))
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    if len(a) < max(a.shape[1], b.shape[1]):  # the same number from smaller products
        k, m = a @ a.T, b @ b.T  # (n, n)
        alignment = (k * m).sum() / (np.linalg.norm(k) * np.linalg.norm(m))
    else:
        scale = np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b)
        alignment = np.linalg.norm(a.T @ b) ** 2 / scale
    return float(np.clip(alignment, 0, 1))


def leep(source_probabilities, labels):
    """Log expected empirical prediction: how well source classes tell target labels.

    A stand-in for the target classifier draws a source class z from the source
    classifier, then a label from the empirical `P(y | z)`; the score is its mean log
    likelihood, `mean of log(sum over z of P(y | z) * probability of z)`. Higher is
    better: 0 if the rows of two labels never share a source class, minus the entropy
    of the labels if all rows get the same prediction. Compare source models on the
    same rows only, and with care if they have different numbers of classes: the more
    there are, the better they fit the labels of few rows by chance.

    Args:
        source_probabilities: Output of the source classifier, with its own head, on
            the target inputs; shape `(n, num_source_classes)`, rows sum to 1.
        labels: Integer target labels of shape `(n,)`, at least two classes.

    Returns:
        A float, at most 0, in nats a row.

    Raises:
        ValueError: If the shapes disagree or are empty, rows are not probabilities
            that sum to 1, or `labels` are not integers of at least two classes.

    Reference:
        Nguyen, Hassner, Seeger and Archambeau, 2020, "LEEP: A New Measure to Evaluate
        Transferability of Learned Representations", equations 1 and 2.
    """
    theta, labels = np.asarray(source_probabilities, "float64"), np.asarray(labels)
    if theta.ndim != 2 or labels.shape != theta.shape[:1] or 0 in theta.shape:
        raise ValueError(
            "`source_probabilities` must have shape (n, num_source_classes), neither "
            "of them 0, and `labels` one label a row. "
            f"Received: {theta.shape} for labels of shape {labels.shape}."
        )
    sums = theta.sum(axis=1, keepdims=True)
    if not (np.abs(sums - 1) < 1e-3).all() or theta.min() < 0:
        raise ValueError(
            "`source_probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}, "
            f"minimum {theta.min():.4g}. Are they logits?"
        )
    if labels.dtype.kind not in "iu" or (labels == labels[0]).all():
        raise ValueError(
            "`labels` must be integers of at least two classes. "
            f"Received: {labels.dtype} labels {labels[:5].tolist()}..."
        )
    theta = theta / sums  # else a row sum of 1.0001 could lift the score above 0
    classes, rows = np.unique(labels, return_inverse=True)
    joint = np.eye(len(classes))[rows].T @ theta / len(labels)  # P(y, z)
    # A source class that no row predicts divides 0 by tiny, and adds 0.
    conditional = joint / np.maximum(joint.sum(axis=0), np.finfo(float).tiny)
    expected = (conditional[rows] * theta).sum(axis=1)  # (n,)
    return float(min(np.log(expected).mean(), 0))


def logme(features, labels):
    """Log maximum evidence: how well a Bayesian linear model on the features does.

    Each class is a target of 0 and 1, modelled as `features @ weights + noise`, where
    `weights` have variance 1 / alpha and the noise variance 1 / beta. The evidence is
    the density of the targets under this model, weights integrated out, so a fit that
    comes from the number of features alone earns little. Its logarithm is maximised
    over alpha and beta, divided by n, and averaged over the classes. Higher is better;
    compare it on the same labels only.

    For each ratio alpha / beta the best beta has a closed form, so one line is
    searched. The paper updates alpha and beta in turn, which climbs to the same
    maximum, but slowly if d exceeds n, at times to a lower one, and without end if
    the best weights are 0. The model has no intercept, as in the paper: a shift of
    the features changes the score, a rotation or scaling does not.

    Args:
        features: Array of shape `(n, d)`.
        labels: Integer labels of shape `(n,)`, at least two classes; a class without
            a row does not count.

    Returns:
        A float in nats a row; a log density, so it may be positive. Noise with a
        standard deviation below 0.001 counts as 0.001, or features that fit the
        labels exactly would score infinity.

    Raises:
        ValueError: If the shapes disagree or are empty, a feature is not finite, or
            `labels` are not integers of at least two classes.

    Reference:
        You, Liu, Wang and Long, 2021, "LogME: Practical Assessment of Pre-trained
        Models for Transfer Learning", section 4.
    """
    features, labels = np.asarray(features, "float64"), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or 0 in features.shape:
        raise ValueError(
            "`features` must have shape (n, d), neither 0, and `labels` one label a "
            f"row. Received: {features.shape} for labels of shape {labels.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("`features` must be finite. Received: NaN or infinity.")
    if labels.dtype.kind not in "iu" or (labels == labels[0]).all():
        raise ValueError(
            "`labels` must be integers of at least two classes. "
            f"Received: {labels.dtype} labels {labels[:5].tolist()}..."
        )
    features = features / (np.abs(features).max() or 1)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    s[s <= max(features.shape) * np.finfo(float).eps * s[0]] = 0
    targets = labels[:, np.newaxis] == np.unique(labels)  # (n, num_classes)
    fitted = (u.T @ targets) ** 2 / len(labels)

    def measure_loss(log_ratio, fitted, total):  # -2 log evidence, less log(2 pi)
        ratios = s**2 / np.exp(log_ratio)
        misfit = total - (fitted * ratios / (1 + ratios)).sum()
        variance = max(misfit, 1e-6)  # the best 1 / beta
        return np.log1p(ratios).sum() / len(u) + np.log(variance) + misfit / variance

    low, high = 2 * np.log([s.min(initial=1, where=s > 0), s.max(initial=1)])
    span = (slice(low - 30, high + 30, 1),)  # its ends are as good as 0 and infinity
    pairs = zip(fitted.T, targets.mean(axis=0), strict=True)
    losses = [optimize.brute(measure_loss, span, x, full_output=True)[1] for x in pairs]
    return float(-(np.mean(losses) + np.log(2 * np.pi)) / 2)


def h_score(features, labels, *, shrinkage=None):
    """H-score: the variance between classes, measured in that of the features.

    `(1 - shrinkage) * trace(pinv(C) @ covariance of the class means)`, where `C` is
    `(1 - shrinkage) * covariance + shrinkage * mean variance * identity`. Higher is
    better: 0 if all classes have the same mean, at most the number of classes less 1.
    Compare it on the same labels only.

    The plain score of Bao et al. is `shrinkage=0`. It needs far more rows than
    features: if no row is an affine combination of the others, which is usual with d
    at least n - 1, it is the number of classes less 1 for any labels, even random
    ones. So the default shrinks, as Ibrahim et al. propose, by the amount that Ledoit
    and Wolf's formula finds in the features. That has a trap of its own: if all
    variances are nearly alike, as in whitened features, the formula finds about 1,
    and the score is about 0 for any labels. State `shrinkage` for such features.

    Args:
        features: Array of shape `(n, d)`.
        labels: Integer labels of shape `(n,)`, at least two classes.
        shrinkage: Number in [0, 1]; None for Ledoit and Wolf's.

    Returns:
        A float in [0, number of classes - 1]; 0 if all rows are equal.

    Raises:
        ValueError: If the shapes disagree or are empty, a feature is not finite,
            `labels` are not integers of at least two classes, or `shrinkage` is
            outside [0, 1].

    Reference:
        Bao, Li, Huang, Zhang, Zheng, Zamir and Guibas, 2019, "An Information-Theoretic
        Approach to Transferability in Task Transfer Learning", definition 2.
        Ibrahim, Ponomareva and Mazumder, 2022, "Newer is Not Always Better: Rethinking
        Transferability Metrics, Their Peculiarities, Stability and Performance".
    """
    features, labels = np.asarray(features, "float64"), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1] or 0 in features.shape:
        raise ValueError(
            "`features` must have shape (n, d), neither 0, and `labels` one label a "
            f"row. Received: {features.shape} for labels of shape {labels.shape}."
        )
    if not np.isfinite(features).all():
        raise ValueError("`features` must be finite. Received: NaN or infinity.")
    if labels.dtype.kind not in "iu" or (labels == labels[0]).all():
        raise ValueError(
            "`labels` must be integers of at least two classes. "
            f"Received: {labels.dtype} labels {labels[:5].tolist()}..."
        )
    if not (shrinkage is None or 0 <= shrinkage <= 1):
        raise ValueError(f"`shrinkage` must be in [0, 1]. Received: {shrinkage}.")
    # A constant feature becomes exactly 0; halved first, no difference overflows.
    features = features / 2 - features[0] / 2
    features /= np.abs(features).max() or 1
    features -= features.mean(axis=0)
    if shrinkage is None:
        shrinkage = ledoit_wolf_shrinkage(features, assume_centered=True)
    u, s, _ = np.linalg.svd(features, full_matrices=False)
    kept = s > max(features.shape) * np.finfo(float).eps * s[0]
    u, variances = u[:, kept], s[kept] ** 2  # n times the variance, by direction
    _, rows, counts = np.unique(labels, return_inverse=True, return_counts=True)
    # The part of each direction's variance that lies between the classes: (rank,)
    between = ((u.T @ (np.eye(len(counts))[rows] / np.sqrt(counts))) ** 2).sum(axis=1)
    kept_part = (1 - shrinkage) * variances
    added = shrinkage * variances.sum() / features.shape[1]
    return float((between * kept_part / (kept_part + added)).sum())
