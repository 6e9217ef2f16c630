"""Arrays to Axes. Every function draws on `ax` (or the current Axes) and returns it.

The look comes from `plt.style.use("transfer_tutorial.book")`; nothing here calls
`plt.show()`.
"""

import matplotlib.pyplot as plt
import numpy as np

# One colour a strategy, the same in every figure of the book (Okabe and Ito).
STRATEGY_COLORS = {
    "scratch": "#D55E00",
    "linear probe": "#0072B2",
    "fine-tuning": "#009E73",
    "raw pixels": "#7F7F7F",
}


def plot_images(images, titles=None, *, num_columns=8):
    """Show images in a grid, on a new figure.

    Args:
        images: Array of shape `(n, height, width)` or `(n, height, width, c)` with
            c 1 or 3, values in 0...255.
        titles: One title an image, or None.
        num_columns: Images a row.

    Returns:
        Array of n Axes.

    Raises:
        ValueError: If there is no image, or not one title for each.
    """
    images = np.asarray(images)
    if len(images) == 0 or (titles is not None and len(titles) != len(images)):
        raise ValueError(
            "`images` must hold at least one image, and `titles` one title for each. "
            f"Received: {len(images)} images, "
            f"{'no' if titles is None else len(titles)} titles."
        )
    num_columns = min(num_columns, len(images))
    num_rows = -(-len(images) // num_columns)
    figure, axes = plt.subplots(
        num_rows,
        num_columns,
        figsize=(1.1 * num_columns, (1.1 if titles is None else 1.35) * num_rows),
        squeeze=False,
    )
    for ax in axes.flat:
        ax.axis("off")
    for index, image in enumerate(images):
        ax = axes.flat[index]
        if image.ndim == 3 and image.shape[-1] == 1:
            image = image[..., 0]
        color_map = "gray_r" if image.ndim == 2 else None
        ax.imshow(image.astype("uint8"), cmap=color_map, vmin=0, vmax=255)
        if titles is not None:
            ax.set_title(titles[index], fontsize=9)
    return axes.flat[: len(images)]


def plot_history(histories, metric="val_accuracy", *, ax=None):
    """Draw one metric over the epochs for several trainings.

    Args:
        histories: Dict from a name to a `keras.callbacks.History`, or to its
            `history` dict.
        metric: Key of the history.
        ax: Axes to draw on, or None for the current ones.

    Returns:
        The Axes.

    Raises:
        ValueError: If a history has no such metric.
    """
    ax = ax or plt.gca()
    for name, history in histories.items():
        values = getattr(history, "history", history)
        if metric not in values:
            raise ValueError(
                f"`metric` must be recorded in every history; {name!r} has "
                f"{sorted(values)}. Received: metric={metric!r}."
            )
        epochs = np.arange(1, len(values[metric]) + 1)
        color = STRATEGY_COLORS.get(name)
        ax.plot(epochs, values[metric], marker="o", label=name, color=color)
    ax.set(xlabel="epoch", ylabel=metric.replace("val_", "validation "))
    ax.legend()
    return ax


def plot_confusion(matrix, class_names, *, ax=None):
    """Draw a confusion matrix with its counts.

    Args:
        matrix: Counts of shape `(num_classes, num_classes)`, rows the true class, as
            `sklearn.metrics.confusion_matrix` gives them.
        class_names: One name a class.
        ax: Axes to draw on, or None for the current ones.

    Returns:
        The Axes.

    Raises:
        ValueError: If the matrix does not fit the names.
    """
    matrix = np.asarray(matrix)
    if matrix.shape != (len(class_names), len(class_names)):
        raise ValueError(
            "`matrix` must have one row and one column a class. "
            f"Received: shape {matrix.shape} for {len(class_names)} names."
        )
    ax = ax or plt.gca()
    ax.imshow(matrix, cmap="Blues")
    ax.grid(False)
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if count > matrix.max() / 2 else "black"
        ax.text(column, row, count, ha="center", va="center", color=color, fontsize=9)
    ticks = np.arange(len(class_names))
    ax.set_xticks(ticks, class_names, rotation=45, ha="right")
    ax.set_yticks(ticks, class_names)
    ax.set(xlabel="predicted class", ylabel="true class")
    return ax


def plot_reliability(confidence, accuracy, *, ax=None):
    """Draw a reliability diagram; on the diagonal, confidence equals accuracy.

    Args:
        confidence: Mean confidence of each bin, in [0, 1]; NaN bins are skipped.
        accuracy: Fraction right in each bin, in [0, 1].
        ax: Axes to draw on, or None for the current ones.

    Returns:
        The Axes.
    """
    ax = ax or plt.gca()
    confidence, accuracy = np.asarray(confidence), np.asarray(accuracy)
    filled = ~np.isnan(confidence)
    ax.plot([0, 1], [0, 1], linestyle="--", color="#7F7F7F", label="perfect")
    ax.plot(confidence[filled], accuracy[filled], marker="o", label="model")
    ax.set(xlabel="mean confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    ax.legend()
    return ax


def plot_embedding(points, labels, domains=None, *, ax=None):
    """Scatter two-dimensional points, coloured by class, marked by domain.

    Args:
        points: Array of shape `(n, 2)`, from PCA or t-SNE.
        labels: Class of each point; names or numbers.
        domains: Domain of each point, or None for one domain.
        ax: Axes to draw on, or None for the current ones.

    Returns:
        The Axes.

    Raises:
        ValueError: If the points are not two-dimensional or the lengths differ.
    """
    points, labels = np.asarray(points), np.asarray(labels)
    domains = np.repeat("", len(points)) if domains is None else np.asarray(domains)
    if points.shape != (len(labels), 2) or len(domains) != len(labels):
        raise ValueError(
            "`points` must have shape (n, 2), with one label and one domain a point. "
            f"Received: points {points.shape}, {len(labels)} labels, "
            f"{len(domains)} domains."
        )
    ax = ax or plt.gca()
    colors = plt.get_cmap("tab10")(np.arange(10))
    for number, label in enumerate(np.unique(labels)):
        for index, domain in enumerate(np.unique(domains)):
            chosen = (labels == label) & (domains == domain)
            name = f"{label} {domain}".strip()
            style = {"color": colors[number % 10], "marker": "o^sDv"[index % 5]}
            ax.scatter(*points[chosen].T, s=12, label=name, **style)
    ax.set(xticks=[], yticks=[])
    ax.legend(fontsize=8, ncols=2)
    return ax


def plot_shots(shots, scores_by_method, *, ylabel="accuracy", ax=None):
    """Draw learning curves: the score against the number of labels a class.

    The line is the mean over seeds, the band the 95 % Student-t interval of it.

    Args:
        shots: Labels a class, shape `(s,)`, increasing.
        scores_by_method: Dict from a method's name to scores of shape
            `(s, num_seeds)`, at least two seeds.
        ylabel: What the scores are.
        ax: Axes to draw on, or None for the current ones.

    Returns:
        The Axes.

    Raises:
        ValueError: If scores do not have one row for each number of shots, or fewer
            than two seeds.
    """
    from scipy import stats

    ax = ax or plt.gca()
    for name, scores in scores_by_method.items():
        scores = np.asarray(scores, "float64")
        if scores.ndim != 2 or len(scores) != len(shots) or scores.shape[1] < 2:
            raise ValueError(
                "`scores_by_method` must map to arrays of shape (len(shots), seeds), "
                f"at least two seeds. Received: {scores.shape} for {name!r} and "
                f"{len(shots)} shots."
            )
        num_seeds = scores.shape[1]
        mean = scores.mean(axis=1)
        margin = scores.std(axis=1, ddof=1) / np.sqrt(num_seeds)
        margin *= stats.t.ppf(0.975, num_seeds - 1)
        color = STRATEGY_COLORS.get(name)
        [line] = ax.plot(shots, mean, marker="o", label=name, color=color)
        ax.fill_between(
            shots, mean - margin, mean + margin, alpha=0.2, color=line.get_color()
        )
    ax.set(xscale="log", xlabel="labels a class", ylabel=ylabel)
    ax.set_xticks(shots, [str(s) for s in shots])
    ax.minorticks_off()
    ax.legend()
    return ax


def plot_scores_with_intervals(names, scores, lows, highs, *, ax=None):
    """Draw one point a method with its interval, the first method on top.

    Args:
        names: Names of the methods.
        scores: One score a method.
        lows: Lower ends of the intervals.
        highs: Upper ends of the intervals.
        ax: Axes to draw on, or None for the current ones.

    Returns:
        The Axes.

    Raises:
        ValueError: If the lengths differ.
    """
    if not len(names) == len(scores) == len(lows) == len(highs):
        raise ValueError(
            "`names`, `scores`, `lows` and `highs` must have the same length. "
            f"Received: {len(names)}, {len(scores)}, {len(lows)}, {len(highs)}."
        )
    ax = ax or plt.gca()
    for row, name in enumerate(names):
        color = STRATEGY_COLORS.get(name, "#0072B2")
        ax.plot([lows[row], highs[row]], [row, row], color=color, linewidth=3)
        ax.plot(scores[row], row, "o", color=color, markersize=8)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="score", ylim=(len(names) - 0.5, -0.5))
    ax.grid(axis="y", visible=False)
    return ax
