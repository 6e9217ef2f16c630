"""Which setting to take when the target has no labels: scores of unlabelled rows."""

import numpy as np


def mean_entropy(probabilities):
    """Mean entropy of predictions on unlabelled rows; **lower** is better.

    `mean over rows of -sum p log p`, in nats: a model that fits the target is sure of
    most of its rows. It says how sure a model is, not how often it is right: a model
    that puts all rows into one class looks perfect. Do not compare a method that was
    trained to be sure, such as pseudo-labels, with one that was not.

    Args:
        probabilities: Array of shape `(n, num_classes)`, n at least 1; rows sum to 1.

    Returns:
        A float from 0 (every row certain) to `log(num_classes)` (every row uniform).

    Raises:
        ValueError: If `probabilities` has another shape, no row, or rows that do not
            sum to 1.

    Reference:
        Morerio, Cavazza and Murino, 2018, "Minimal-Entropy Correlation Alignment for
        Unsupervised Deep Domain Adaptation".
    """
    probabilities = np.asarray(probabilities, "float64")
    if probabilities.ndim != 2 or probabilities.size == 0:
        raise ValueError(
            "`probabilities` must have shape (n, num_classes), n at least 1. "
            f"Received: {probabilities.shape}."
        )
    sums = probabilities.sum(axis=1)
    if not (np.abs(sums - 1) < 1e-3).all() or (probabilities < 0).any():
        raise ValueError(
            "`probabilities` must be at least 0 and sum to 1 in every row. "
            f"Received: row sums {sums.min():.4g}...{sums.max():.4g}."
        )
    logs = np.log(np.where(probabilities > 0, probabilities, 1))  # 0 log 0 is 0
    return float(np.maximum(-(probabilities * logs).sum(axis=1), 0).mean())


def soft_neighborhood_density(probabilities_or_features, temperature=0.05):
    """How dense the neighbourhoods of unlabelled rows are (SND); **higher** is better.

    Each row is scaled to length 1. Its cosine similarities to all *other* rows, divided
    by the temperature, go through a softmax; the answer is the mean entropy of these
    distributions, in nats. A row among many equally near neighbours has a high one.

    It rewards clusters, right or wrong: if all rows fall together, into one class for
    instance, it takes its highest value. And it grows with the number of rows, so
    compare models on the same ones only. Needs a few arrays of n x n numbers: fine up
    to a few thousand rows, beyond that take a sample.

    Args:
        probabilities_or_features: Finite array of shape `(n, d)`, n at least 2. The
            paper takes the softmax output of the classifier.
        temperature: Positive number. The smaller, the nearer the neighbours must be.

    Returns:
        A float from 0 (every row has a single neighbour) to `log(n - 1)` (all others
        are equally near).

    Raises:
        ValueError: If the array has another shape, fewer than two rows, a value that is
            not finite, or a row of zeros; or if `temperature` is not positive and
            finite.

    Reference:
        Saito, Kim, Teterwak, Sclaroff, Darrell and Saenko, 2021, "Tune it the Right
        Way: Unsupervised Validation of Domain Adaptation via Soft Neighborhood
        Density".
    """
    rows = np.asarray(probabilities_or_features, "float64")
    if rows.ndim != 2 or len(rows) < 2 or not np.isfinite(rows).all():
        raise ValueError(
            "`probabilities_or_features` must be finite and of shape (n, d), n at "
            f"least 2. Received: shape {rows.shape}, {np.sum(~np.isfinite(rows))} "
            "values not finite."
        )
    largest = np.abs(rows).max(axis=1, initial=0, keepdims=True)
    if (largest == 0).any() or not 0 < temperature < np.inf:
        raise ValueError(
            "`probabilities_or_features` must have no row of zeros, and `temperature` "
            f"be positive and finite. Received: {np.sum(largest == 0)} rows of zeros, "
            f"{temperature=}."
        )
    rows = rows / largest  # so that no square overflows or vanishes
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gaps = rows @ rows.T
    np.fill_diagonal(gaps, -np.inf)  # a row is not its own neighbour
    gaps = (gaps - gaps.max(axis=1, keepdims=True)) / max(temperature, 1e-300)
    odds = np.exp(gaps)  # 1 for the nearest row, 0 for the row itself
    totals = odds.sum(axis=1)
    # -sum p log p with p = odds / total, in terms of the gaps
    gaps[odds == 0] = 0
    return float(np.mean(np.log(totals) - (odds * gaps).sum(axis=1) / totals))
