import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from transfer_tutorial.evaluation import (
    bootstrap_interval,
    compare_paired,
    paired_bootstrap_interval,
    seed_interval,
)


def measure_accuracy(y_true, y_pred):
    """The same as scikit-learn's, but fast enough for thousands of resamples."""
    return np.mean(y_true == y_pred)


def make_predictions(*, n=200, accuracy=0.8, seed=0):
    """Binary labels, and predictions that are right with this probability."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(2, size=n)
    return y_true, np.where(rng.random(n) < accuracy, y_true, 1 - y_true)


def test_bootstrap_interval_of_a_constant_metric_is_a_point():
    assert bootstrap_interval(lambda y, p: 0.5, [0, 1], [1, 1]) == (0.5, 0.5)


def test_bootstrap_interval_contains_the_score_of_the_rows():
    y_true, y_pred = make_predictions()
    low, high = bootstrap_interval(measure_accuracy, y_true, y_pred)
    assert low < measure_accuracy(y_true, y_pred) < high


def test_bootstrap_interval_of_an_accuracy_is_that_of_a_binomial_proportion():
    y_true, y_pred = make_predictions(n=500)
    low, high = bootstrap_interval(measure_accuracy, y_true, y_pred, num_resamples=4000)
    resampled = stats.binom(500, measure_accuracy(y_true, y_pred))
    # The quantiles of 4,000 draws lie within a tenth of a standard deviation.
    tolerance = resampled.std() / 10 / 500 + 1 / 500
    assert low == pytest.approx(resampled.ppf(0.025) / 500, abs=tolerance)
    assert high == pytest.approx(resampled.ppf(0.975) / 500, abs=tolerance)


def test_bootstrap_interval_widens_with_the_confidence_and_narrows_with_the_rows():
    def width(**options):
        confidence = options.pop("confidence", 0.95)
        rows = make_predictions(**options)
        low, high = bootstrap_interval(measure_accuracy, *rows, confidence=confidence)
        return high - low

    assert width(confidence=0.5) < width(confidence=0.95) < width(confidence=0.99)
    assert width(n=1600) < width(n=100) / 2


def test_bootstrap_interval_keeps_rows_together_and_takes_probabilities():
    y_true, y_pred = make_predictions()
    probabilities = np.eye(2)[y_pred]
    by_label = bootstrap_interval(measure_accuracy, y_true, y_pred)
    by_row = bootstrap_interval(
        lambda y, p: measure_accuracy(y, p.argmax(axis=1)), y_true, probabilities
    )
    assert by_label == by_row
    assert bootstrap_interval(measure_accuracy, y_true, y_true) == (1, 1)


@pytest.mark.parametrize(
    "interval",
    [
        lambda **seed: bootstrap_interval(
            measure_accuracy, *make_predictions(), **seed
        ),
        lambda **seed: paired_bootstrap_interval(
            measure_accuracy, *make_predictions(), np.zeros(200), **seed
        ),
    ],
    ids=["one model", "paired"],
)
def test_bootstrap_repeats_with_the_same_seed_and_differs_with_another(interval):
    assert interval(seed=1) == interval(seed=1) != interval(seed=2)


def test_paired_interval_of_two_equal_models_is_zero():
    y_true, y_pred = make_predictions()
    assert paired_bootstrap_interval(measure_accuracy, y_true, y_pred, y_pred) == (0, 0)


def test_paired_interval_lies_above_zero_when_the_second_model_is_better():
    y_true, worse = make_predictions(accuracy=0.6)
    low, high = paired_bootstrap_interval(measure_accuracy, y_true, worse, y_true)
    gap = 1 - measure_accuracy(y_true, worse)
    assert 0 < low < gap < high
    swapped = paired_bootstrap_interval(measure_accuracy, y_true, y_true, worse)
    assert swapped == pytest.approx((-high, -low))


@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_paired_interval_of_accuracies_is_that_of_the_mean_difference_of_rows(
    confidence,
):
    y_true, first = make_predictions()
    second = make_predictions(accuracy=0.9)[1]
    difference = (second == y_true).astype(float) - (first == y_true)
    expected = bootstrap_interval(
        lambda _, rows: rows.mean(), y_true, difference, confidence=confidence
    )
    found = paired_bootstrap_interval(
        measure_accuracy, y_true, first, second, confidence=confidence
    )
    assert found == pytest.approx(expected)


def test_paired_interval_is_narrower_than_unpaired_ones_for_models_that_err_alike():
    y_true, first = make_predictions()
    second = first.copy()
    second[:10] = y_true[:10]  # the same errors elsewhere
    low, high = paired_bootstrap_interval(measure_accuracy, y_true, first, second)
    one, other = (
        np.ptp(bootstrap_interval(measure_accuracy, y_true, y_pred))
        for y_pred in (first, second)
    )
    # Independent differences add in quadrature.
    assert high - low < np.hypot(one, other) / 2


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9), st.sampled_from([0.9, 0.99])
)
def test_seed_interval_equals_student_t_of_scipy(scores, confidence):
    scale = stats.sem(scores)
    low, high = seed_interval(scores, confidence=confidence)
    assert (low + high) / 2 == pytest.approx(np.mean(scores), abs=1e-9)
    if scale > 1e-9:
        expected = stats.t.interval(confidence, len(scores) - 1, np.mean(scores), scale)
        assert (low, high) == pytest.approx(expected)


def test_seed_interval_of_two_scores_is_the_one_worked_out_by_hand():
    # Mean 2, standard error 1, and t of one degree of freedom at 0.975 is 12.706.
    assert seed_interval([1, 3]) == pytest.approx((2 - 12.7062, 2 + 12.7062))


# Differences 0.1, 0.2, 0.3: mean 0.2, standard error 0.1 / sqrt(3), t(2) at 0.975 is
# 4.30265, so the margin is 0.24841 and the interval contains 0.
# Differences 0.2, 0.2, 0.3: mean 7 / 30, standard error 1 / 30, margin 0.14342.
@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        ([0.6, 0.7, 0.8], (0.2, 0.2 - 0.24841, 0.2 + 0.24841, "no evidence")),
        ([0.7, 0.7, 0.8], (7 / 30, 7 / 30 - 0.14342, 7 / 30 + 0.14342, "gain")),
        (
            [0.3, 0.3, 0.2],
            (-7 / 30, -7 / 30 - 0.14342, -7 / 30 + 0.14342, "negative transfer"),
        ),
    ],
)
def test_verdict_is_read_off_the_interval_of_the_differences(transfer, expected):
    result = compare_paired([0.5, 0.5, 0.5], transfer)
    numbers = result["difference"], result["low"], result["high"]
    assert numbers == pytest.approx(expected[:3], abs=1e-5)
    assert result["verdict"] == expected[3]


def test_verdict_sees_a_small_gain_through_large_differences_between_seeds():
    baseline = np.array([0.2, 0.5, 0.9])
    result = compare_paired(baseline, baseline + [0.02, 0.03, 0.025])
    assert result["verdict"] == "gain"


def test_verdict_asks_for_more_evidence_at_a_higher_confidence():
    scores = [0.5, 0.5, 0.5], [0.7, 0.7, 0.8]
    assert compare_paired(*scores, confidence=0.99)["verdict"] == "no evidence"


def test_verdict_of_equal_scores_is_no_evidence():
    assert compare_paired([0.5, 0.6], [0.5, 0.6])["verdict"] == "no evidence"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: bootstrap_interval(measure_accuracy, [0, 1], [0]),
            r"`y_true` and `y_pred` .* Received: 2 and 1 rows, confidence=0.95",
        ),
        (
            lambda: bootstrap_interval(measure_accuracy, [], []),
            r"`y_true` and `y_pred` .* Received: 0 and 0 rows",
        ),
        (
            lambda: bootstrap_interval(measure_accuracy, [0], [0], confidence=95),
            r"`confidence` .* Received: .* confidence=95",
        ),
        (
            lambda: paired_bootstrap_interval(measure_accuracy, [0, 1], [0, 1], [0]),
            r"`y_true`, `y_pred_a` and `y_pred_b` .* Received: 2, 2 and 1 rows",
        ),
        (
            lambda: paired_bootstrap_interval(measure_accuracy, [], [], []),
            r"`y_pred_a` .* Received: 0, 0 and 0 rows",
        ),
        (
            lambda: paired_bootstrap_interval(
                measure_accuracy, [0], [0], [0], confidence=1
            ),
            r"`confidence` .* Received: .* confidence=1",
        ),
        (lambda: seed_interval([0.5]), r"`scores` .* Received: \[0.5\]"),
        (lambda: seed_interval([[1, 2], [3, 4]]), r"`scores` .* Received: \[\[1.0"),
        (lambda: seed_interval([0.5, np.nan]), r"`scores` .* Received: \[0.5, nan\]"),
        (
            lambda: seed_interval([1, 2], confidence=0),
            r"`confidence` .* Received: 0",
        ),
        (
            lambda: compare_paired([1, 2], [1, 2, 3]),
            r"`baseline_scores` and `transfer_scores` .* Received: .*\(2,\) and \(3,\)",
        ),
        (
            lambda: compare_paired([0.5], [0.6]),
            r"`baseline_scores` and `transfer_scores` .* Received: .*\(1,\)",
        ),
        (
            lambda: compare_paired([[1, 2], [3, 4]], [[1, 2], [3, 4]]),
            r"`baseline_scores` and `transfer_scores` .* Received: .*\(2, 2\)",
        ),
        (lambda: compare_paired([0.5, np.inf], [0.6, 1]), "finite.* Received: .*inf"),
        (
            lambda: compare_paired([0, 1], [1, 3], confidence=1.5),
            r"`confidence` .* Received: .*confidence=1.5",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
