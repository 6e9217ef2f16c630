import threading

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joblib.parallel import ThreadingBackend
from scipy import stats

from transfer_tutorial.evaluation import (
    compare_paired,
    compare_strategies,
    format_comparison,
    run_strategies,
    seed_interval,
)


def score_scratch(seed):
    return {"accuracy": 0.5 + seed / 100, "error": 0.5 - seed / 100}


def score_tuned(seed):
    return {"error": 0.25, "accuracy": 0.75 + np.float32(seed)}


STRATEGIES = {"tuned": score_tuned, "scratch": score_scratch}


def assert_same_scores(found, expected):
    assert list(found) == list(expected)
    for name, by_metric in expected.items():
        assert set(found[name]) == set(by_metric)
        for metric, values in by_metric.items():
            np.testing.assert_array_equal(found[name][metric], values)


def test_run_gives_an_array_for_each_strategy_and_metric_in_the_order_of_the_seeds():
    scores = run_strategies(STRATEGIES, [3, 1, 2])
    expected = {
        "tuned": {"accuracy": [3.75, 1.75, 2.75], "error": [0.25, 0.25, 0.25]},
        "scratch": {"accuracy": [0.53, 0.51, 0.52], "error": [0.47, 0.49, 0.48]},
    }
    assert_same_scores(scores, expected)
    arrays = [values for found in scores.values() for values in found.values()]
    assert {values.dtype.name for values in arrays} == {"float64"}


def test_run_calls_each_strategy_once_with_each_seed():
    calls = []
    strategies = {
        name: lambda seed, name=name: calls.append((name, seed)) or {"f": 0.0}
        for name in ("a", "b")
    }
    run_strategies(strategies, iter(range(3)))
    assert calls == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)]


def test_run_in_threads_gives_the_same_arrays_in_whatever_order_the_jobs_end():
    # "first" waits until "last" has run: with one job at a time it would time out.
    last_has_run = threading.Event()

    def first(seed):
        assert last_has_run.wait(timeout=20)
        return {"accuracy": float(seed)}

    def last(seed):
        last_has_run.set()
        return {"accuracy": -float(seed)}

    with joblib.parallel_config(backend="threading"):
        scores = run_strategies({"first": first, "last": last}, [5, 7], num_jobs=4)
    expected = {"first": {"accuracy": [5, 7]}, "last": {"accuracy": [-5, -7]}}
    assert_same_scores(scores, expected)


def test_run_in_two_threads_equals_the_run_one_by_one():
    with joblib.parallel_config(backend="threading"):
        scores = run_strategies(STRATEGIES, range(5), num_jobs=2)
    assert_same_scores(scores, run_strategies(STRATEGIES, range(5), num_jobs=1))


@pytest.fixture
def cluster():
    """A joblib backend that counts what it is given, registered as "cluster"."""

    class Cluster(ThreadingBackend):
        submitted = 0

        def submit(self, func, callback=None):
            Cluster.submitted += 1
            return super().submit(func, callback)

        def apply_async(self, func, callback=None):  # its name before joblib 1.5
            Cluster.submitted += 1
            return super().apply_async(func, callback)

    joblib.register_parallel_backend("cluster", Cluster)
    yield Cluster
    del joblib.parallel.BACKENDS["cluster"]


def test_run_goes_to_the_backend_that_joblib_is_configured_with(cluster):
    run_strategies(STRATEGIES, range(3))
    assert cluster.submitted == 0
    with joblib.parallel_config(backend="cluster", n_jobs=2):
        scores = run_strategies(STRATEGIES, range(3))
    assert cluster.submitted == 6
    assert_same_scores(scores, run_strategies(STRATEGIES, range(3)))


@pytest.mark.parametrize(
    ("strategies", "seeds", "message"),
    [
        ({}, [0, 1], r"`strategies` must not be empty\. Received: \{\}"),
        (STRATEGIES, [0], r"`seeds` must be .* two or more\. Received: \[0\]"),
        (STRATEGIES, [0, 1, 0], r"`seeds` must be different.* Received: \[0, 1, 0\]"),
    ],
    ids=["no strategy", "one seed", "a seed twice"],
)
def test_run_refuses_what_it_can_refuse_before_anything_runs(
    strategies, seeds, message
):
    started = []
    strategies = {name: started.append for name in strategies}
    with pytest.raises(ValueError, match=message):
        run_strategies(strategies, seeds)
    assert not started


@pytest.mark.parametrize(
    ("result", "received"),
    [
        (0.5, r"0\.5"),
        (None, "None"),
        ({}, r"\{\}"),
        ({"f": 1.0, "g": np.nan}, "g=nan"),
        ({"f": -np.inf}, "f=-inf"),
        ({"f": "0.5"}, "f='0.5'"),
        ({"f": np.zeros(2)}, r"f=array\(\[0\., 0\.\]\)"),
        ({"f": 1j}, "f=1j"),
    ],
)
def test_run_names_strategy_seed_and_metric_of_what_is_no_finite_float(
    result, received
):
    strategies = {
        "right": lambda seed: {"f": 0.5},
        "wrong": lambda seed: result if seed == 1 else {"f": 0.5},
    }
    with pytest.raises(ValueError, match=rf"Received: {received} from 'wrong' .* 1\."):
        run_strategies(strategies, [0, 1])


def test_run_names_both_strategies_that_measure_different_things():
    strategies = {"scratch": score_scratch, "tuned": lambda seed: {"accuracy": 0.5}}
    with pytest.raises(
        ValueError, match=r"Received: \['error'\] .* \('scratch', 0\) .* \('tuned', 0\)"
    ):
        run_strategies(strategies, [0, 1])


# Differences 0.2, 0.2, 0.3: mean 7 / 30, standard error 1 / 30; t(2) at 0.975 is
# 4.30265, so the margin is 0.14342. Means: (0.7 + 0.7 + 0.8) / 3, the same margin.
SCORES = {
    "tuned": {"accuracy": [0.7, 0.7, 0.8], "error": [0.3, 0.3, 0.2]},
    "scratch": {"accuracy": [0.5, 0.5, 0.5], "error": [0.5, 0.5, 0.5]},
    "worse": {"accuracy": [0.3, 0.3, 0.2], "error": [0.7, 0.7, 0.8]},
    "unsure": {"accuracy": [0.6, 0.7, 0.8], "error": [0.4, 0.3, 0.2]},
}


def test_comparison_of_three_seeds_is_the_one_worked_out_by_hand():
    rows = compare_strategies(SCORES, "scratch")
    assert [row["strategy"] for row in rows] == list(SCORES)
    tuned, scratch = rows[:2]
    assert list(tuned.values())[1:-1] == pytest.approx(
        [
            *(22 / 30, 22 / 30 - 0.14342, 22 / 30 + 0.14342),
            *(7 / 30, 7 / 30 - 0.14342, 7 / 30 + 0.14342),
        ],
        abs=1e-5,
    )
    assert scratch == {
        "strategy": "scratch",
        **{"mean": 0.5, "low": 0.5, "high": 0.5},
        **{"difference": 0.0, "difference_low": 0.0, "difference_high": 0.0},
        "verdict": "baseline",
    }


@pytest.mark.parametrize(
    "options",
    [{}, {"metric": "error", "higher_is_better": False}],
    ids=["higher is better", "lower is better"],
)
def test_verdict_is_gain_when_the_difference_lies_on_the_better_side(options):
    rows = compare_strategies(SCORES, "scratch", **options)
    verdicts = ["gain", "baseline", "negative transfer", "no evidence"]
    assert [row["verdict"] for row in rows] == verdicts


def test_verdict_asks_for_more_evidence_at_a_higher_confidence():
    rows = compare_strategies(SCORES, "scratch", confidence=0.99)
    assert rows[0]["verdict"] == "no evidence"


score_lists = st.lists(
    st.tuples(*3 * [st.floats(-1, 1, width=16)]), min_size=2, max_size=9
)


@settings(deadline=None)
@given(score_lists, st.sampled_from([0.9, 0.99]))
def test_comparison_agrees_with_scipy_and_with_the_functions_for_two(seeds, confidence):
    columns = dict(zip("abc", np.transpose(seeds), strict=True))
    scores = {name: {"accuracy": column} for name, column in columns.items()}
    for row in compare_strategies(scores, "b", confidence=confidence):
        column = columns[row["strategy"]]
        interval = seed_interval(column, confidence=confidence)
        assert row["mean"] == pytest.approx(column.mean())
        assert (row["low"], row["high"]) == pytest.approx(interval)
        paired = compare_paired(columns["b"], column, confidence=confidence)
        found = [row[f"difference{part}"] for part in ("", "_low", "_high")]
        expected = [paired[part] for part in ("difference", "low", "high")]
        assert found == pytest.approx(expected)
        if np.ptp(column - columns["b"]) > 1e-3:
            test = stats.ttest_rel(column, columns["b"])
            assert found[1:] == pytest.approx(test.confidence_interval(confidence))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baseline": "none"}, r"`baseline` .* Received: baseline='none'"),
        ({"metric": "f1"}, r"`metric` .* Received: .*metric='f1' .*\['accuracy'"),
        (
            {"scores": SCORES | {"new": {"f1": [1, 2, 3]}}},
            r"`metric` measured for all.* 'new': \['f1'\]",
        ),
        (
            {"scores": {"scratch": {"accuracy": [1]}, "new": {"accuracy": [2]}}},
            r"`scores` .* two or more seeds.* Received: \[1\.0\] for 'scratch'",
        ),
        (
            {"scores": SCORES | {"new": {"accuracy": [1, 2]}}},
            r"`scores` .* Received: \[1\.0, 2\.0\] for 'new', 3 of 'scratch'",
        ),
        (
            {"scores": SCORES | {"new": {"accuracy": [1, np.nan, 1]}}},
            r"`scores` must be finite.* Received: \[1\.0, nan, 1\.0\] for 'new'",
        ),
        ({"confidence": 1}, r"`confidence` .* Received: 1\."),
        ({"confidence": 0}, r"`confidence` .* Received: 0\."),
    ],
)
def test_comparison_names_what_it_cannot_compare(change, message):
    arguments = {"scores": SCORES, "baseline": "scratch"} | change
    with pytest.raises(ValueError, match=message):
        compare_strategies(**arguments)


def test_comparison_as_text_is_an_aligned_table():
    rows = compare_strategies(SCORES, "scratch")
    assert format_comparison(rows).split("\n") == [
        "strategy   mean    low   high  difference     low    high  verdict",
        "tuned     0.733  0.590  0.877      +0.233  +0.090  +0.377  gain",
        "scratch   0.500  0.500  0.500      +0.000  +0.000  +0.000  baseline",
        "worse     0.267  0.123  0.410      -0.233  -0.377  -0.090  negative transfer",
        "unsure    0.700  0.452  0.948      +0.200  -0.048  +0.448  no evidence",
    ]
