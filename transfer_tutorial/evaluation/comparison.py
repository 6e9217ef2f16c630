"""Every strategy with every seed, and what the comparison says."""

import math
import numbers

import joblib
import numpy as np
from scipy import stats


def run_strategies(strategies, seeds, *, num_jobs=None):
    """Run every strategy with every seed: the first half of an honest comparison.

    All strategies get the same seeds, so `compare_strategies` may pair their scores.
    Nothing here sets a global seed: a strategy does, with the seed that it gets. Two
    runs in threads of one process would share it; joblib's default is processes.

    Another joblib backend, such as a cluster's, is plugged in from outside::

        with joblib.parallel_config(backend="dask", n_jobs=8):
            scores = run_strategies(strategies, seeds=range(5))

    Args:
        strategies: Dict from name to a function `seed -> dict` that trains and scores
            one model; its dict maps the name of a metric to a finite float.
        seeds: Different seeds, at least two, since an interval needs two.
        num_jobs: Runs at the same time, as joblib's `n_jobs`; with None what
            `joblib.parallel_config` says, which is 1 unless told otherwise.

    Returns:
        A dict of dicts: `scores[name][metric]` is a float64 array of shape
        `(num_seeds,)` in the order of `seeds`, whatever the number of jobs.

    Raises:
        ValueError: Before anything runs, if there is no strategy, fewer than two
            seeds, or a seed that occurs twice; afterwards, if a strategy has returned
            no dict of finite floats, or not the metrics that the others have.
    """
    seeds = list(seeds)
    if not strategies:
        raise ValueError(f"`strategies` must not be empty. Received: {strategies}.")
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ValueError(f"`seeds` must be different, two or more. Received: {seeds}.")
    runs = [(name, seed) for name in strategies for seed in seeds]
    jobs = (joblib.delayed(strategies[name])(seed) for name, seed in runs)
    found = dict(zip(runs, joblib.Parallel(n_jobs=num_jobs)(jobs), strict=True))
    for (name, seed), result in found.items():
        if not isinstance(result, dict) or not result:
            raise ValueError(
                "`strategies` must return dicts from metrics to floats. "
                f"Received: {result!r} from {name!r} with seed {seed}."
            )
        for metric, value in result.items():
            if not isinstance(value, numbers.Real) or not math.isfinite(value):
                raise ValueError(
                    "`strategies` must return finite floats. Received: "
                    f"{metric}={value!r} from {name!r} with seed {seed}."
                )
        if different := set(result) ^ set(found[runs[0]]):
            raise ValueError(
                "`strategies` must all return the same metrics. Received: "
                f"{sorted(different)} from one of {runs[0]} and {(name, seed)} only."
            )
    return {
        name: {m: np.array([found[name, s][m] for s in seeds], float) for m in result}
        for name in strategies
    }


def compare_strategies(
    scores, baseline, *, metric="accuracy", confidence=0.95, higher_is_better=True
):
    """Which strategies help? The second half of an honest comparison.

    Each strategy gets Student's t interval of its mean over the seeds, and that of its
    paired differences from the baseline. The verdict is "gain" when all of the latter
    lies on the better side of 0, "negative transfer" when it lies on the worse side,
    else "no evidence". Each verdict stands alone: of twenty strategies that change
    nothing, one is expected to get a gain or a loss by chance at 95 % confidence.

    Args:
        scores: What `run_strategies` returns: `scores[name][metric]`, one finite score
            a seed, at least two, the same seeds in the same order for all.
        baseline: Name of the strategy that the others are compared with.
        metric: Name of the metric to compare.
        confidence: Coverage aimed at by each interval, in (0, 1).
        higher_is_better: False for a metric such as the expected calibration error.

    Returns:
        A list with one dict a strategy, in the order of `scores`: `strategy`, `mean`,
        `low`, `high`, then `difference`, `difference_low`, `difference_high` (strategy
        minus baseline), and `verdict`, which for the baseline itself is "baseline".

    Raises:
        ValueError: If `baseline` or `metric` is unknown, there are fewer than two
            seeds, their number differs, a score is not finite, or `confidence` is
            outside (0, 1).

    Reference:
        Student, 1908, "The Probable Error of a Mean".
    """

    def estimate(sample):
        margin = stats.t.ppf((1 + confidence) / 2, len(sample) - 1) * stats.sem(sample)
        return [float(sample.mean() + side * margin) for side in (0, -1, 1)]

    if baseline not in scores or any(metric not in s for s in scores.values()):
        raise ValueError(
            "`baseline` must be a strategy, and `metric` measured for all. Received: "
            f"{baseline=}, {metric=} for { {n: list(s) for n, s in scores.items()} }."
        )
    values = {name: np.asarray(s[metric], "float64") for name, s in scores.items()}
    num_seeds = values[baseline].size
    for name, value in values.items():
        if value.shape != (num_seeds,) or num_seeds < 2 or not np.isfinite(value).all():
            raise ValueError(
                "`scores` must be finite, one for each of the same two or more seeds. "
                f"Received: {value.tolist()} for {name!r}, {num_seeds} of {baseline!r}."
            )
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1). Received: {confidence}.")
    rows = []
    for name, value in values.items():
        mean, low, high = estimate(value)
        row = {"strategy": name, "mean": mean, "low": low, "high": high}
        change, low, high = estimate(value - values[baseline])
        row |= {"difference": change, "difference_low": low, "difference_high": high}
        better, worse = (low > 0, high < 0) if higher_is_better else (high < 0, low > 0)
        verdict = "gain" if better else "negative transfer" if worse else "no evidence"
        rows.append(row | {"verdict": "baseline" if name == baseline else verdict})
    return rows


def format_comparison(rows):
    """The comparison as a table of plain text, to be printed.

    Args:
        rows: What `compare_strategies` returns.

    Returns:
        A string: a header and a line for each strategy, three decimals, the
        differences with their sign. The second `low` and `high` are those of the
        difference.
    """
    table = ["strategy mean low high difference low high verdict".split()]
    for row in rows:
        levels = [f"{row[key]:.3f}" for key in ("mean", "low", "high")]
        changes = ("difference", "difference_low", "difference_high")
        signed = [f"{row[key]:+.3f}" for key in changes]
        table.append([str(row["strategy"]), *levels, *signed, row["verdict"]])
    first, *widths, _ = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join([name.ljust(first), *map(str.rjust, cells, widths), verdict])
        for name, *cells, verdict in table
    )
