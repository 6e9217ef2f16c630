"""Which rows: stratified training, validation and test sets; few-shot subsets."""

import numpy as np


def split_three_ways(x, y, *, fractions=(0.6, 0.2, 0.2), seed=0):
    """Split rows into training, validation and test set, stratified by class.

    Args:
        x: Array of shape `(n, ...)`.
        y: Integer labels of shape `(n,)`.
        fractions: Share of each part; three positive numbers that sum to 1. Counts
            are rounded within each class, and at least 1.
        seed: Seed of the shuffle.

    Returns:
        `((x_train, y_train), (x_validation, y_validation), (x_test, y_test))`.
        Every row is in exactly one part, and every class in each of them.

    Raises:
        ValueError: If the lengths differ, a part would be empty, or a class has fewer
            than three rows.
    """
    x, y = np.asarray(x), np.asarray(y)
    if len(x) != len(y):
        raise ValueError(
            "`x` and `y` must have the same length. "
            f"Received: len(x)={len(x)}, len(y)={len(y)}."
        )
    if len(fractions) != 3 or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(
            "`fractions` must be three positive numbers that sum to 1, so that no "
            f"part is empty. Received: fractions={tuple(fractions)}."
        )
    classes, counts = np.unique(y, return_counts=True)
    if len(y) == 0 or counts.min() < 3:
        raise ValueError(
            "`y` must have at least three rows of every class, one for each part. "
            f"Received: {dict(zip(classes.tolist(), counts.tolist(), strict=True))}."
        )
    rng = np.random.default_rng(seed)
    parts = [], [], []
    for c in classes:
        rows = rng.permutation(np.flatnonzero(y == c))
        # Rounded, but no class is left out of a part.
        first = np.clip(round(fractions[0] * len(rows)), 1, len(rows) - 2)
        second = round((fractions[0] + fractions[1]) * len(rows))
        second = np.clip(second, first + 1, len(rows) - 1)
        for part, chosen in zip(parts, np.split(rows, [first, second]), strict=True):
            part.append(chosen)
    train, validation, test = (rng.permutation(np.concatenate(p)) for p in parts)
    return (x[train], y[train]), (x[validation], y[validation]), (x[test], y[test])


def few_shot_indices(y, shots, *, seed=0):
    """Draw the same number of rows from every class, without replacement.

    With one seed the draws are nested: the rows of `shots=5` are among those of
    `shots=20`, so a learning curve adds labels instead of exchanging them.

    Args:
        y: Integer labels of shape `(n,)`.
        shots: Rows a class, at least 1.
        seed: Seed of the draw.

    Returns:
        Sorted int64 indices of shape `(shots * num_classes,)`.

    Raises:
        ValueError: If `shots` is below 1 or above the size of the smallest class.
    """
    y = np.asarray(y)
    classes, counts = np.unique(y, return_counts=True)
    if shots < 1 or len(classes) == 0:
        raise ValueError(
            "`shots` must be at least 1, and `y` must not be empty. "
            f"Received: shots={shots}, len(y)={len(y)}."
        )
    if counts.min() < shots:
        raise ValueError(
            "`shots` must not exceed the size of the smallest class. "
            f"Received: shots={shots}, but class {classes[counts.argmin()]} has "
            f"{counts.min()} rows."
        )
    rng = np.random.default_rng(seed)
    picks = [rng.permutation(np.flatnonzero(y == c))[:shots] for c in classes]
    return np.sort(np.concatenate(picks))
