"""How alike two domains are."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits


def proxy_a_distance(source_features, target_features, *, seed=0):
    """Proxy A-distance of two domains: how well a linear classifier tells them apart.

    `2 (1 - 2 error)`, where `error` is the cross-validated error (five folds,
    balanced over the domains) of a logistic regression that predicts the domain.
    Higher means farther apart: about 0 when the domains cannot be told apart, 2 when
    they never overlap. Errors above one half count as one half.

    Args:
        source_features: Array of shape `(n, d)`, n at least 5.
        target_features: Array of shape `(m, d)`, m at least 5.
        seed: Seed of the folds.

    Returns:
        A float in [0, 2].

    Raises:
        ValueError: If the widths differ, a domain has fewer than five rows, or a
            feature is not finite.

    Reference:
        Ben-David, Blitzer, Crammer and Pereira, 2007, "Analysis of Representations
        for Domain Adaptation", section 4.
    """
    source, target = np.asarray(source_features), np.asarray(target_features)
    if source.ndim != 2 or target.ndim != 2 or source.shape[1] != target.shape[1]:
        raise ValueError(
            "`source_features` and `target_features` must be of shape (n, d) and "
            f"(m, d). Received: {source.shape} and {target.shape}."
        )
    if min(len(source), len(target)) < 5:
        raise ValueError(
            "`source_features` and `target_features` need at least five rows each. "
            f"Received: {len(source)} and {len(target)}."
        )
    features = np.concatenate([source, target])
    if not np.isfinite(features).all():
        raise ValueError(
            "`source_features` and `target_features` must be finite. "
            "Received: NaN or infinity."
        )
    domains = np.repeat([0, 1], [len(source), len(target)])
    classifier = make_pipeline(
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=1000, class_weight="balanced"),
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    with threadpool_limits(1):  # small products: threads would only wait
        accuracy = cross_val_score(
            classifier, features, domains, cv=folds, scoring="balanced_accuracy"
        ).mean()
    error = min(1 - accuracy, 0.5)
    return float(2 * (1 - 2 * error))
