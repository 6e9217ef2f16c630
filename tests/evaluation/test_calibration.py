import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.calibration import calibration_curve

from transfer_tutorial.evaluation import (
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)


@st.composite
def predictions(draw):
    """Labels, and probabilities of which some are tied and some are 0."""
    num_classes = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    y_true = rng.integers(num_classes, size=draw(st.integers(1, 30)))
    weights = rng.integers(0, draw(st.sampled_from([3, 1000])), (len(y_true), 5))
    weights[:, 0] += 1  # no row of zeros
    probabilities = weights[:, :num_classes].astype("float64")
    return y_true, probabilities / probabilities.sum(axis=1, keepdims=True)


# Five rows: confidence 0.9 right, 0.9 wrong, 0.7 right, 0.7 right, 0.6 wrong.
Y_TRUE = np.array([0, 1, 1, 0, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.7, 0.3], [0.6, 0.4]])


def test_calibration_error_of_five_rows_is_the_one_worked_out_by_hand():
    # Bins of width 0.1: |1/2 - 0.9| for two rows, |1 - 0.7| for two, |0 - 0.6| for one.
    error = expected_calibration_error(Y_TRUE, PROBABILITIES, num_bins=10)
    assert error == pytest.approx((2 * 0.4 + 2 * 0.3 + 1 * 0.6) / 5)
    # One bin: mean confidence 0.76, accuracy 0.6.
    error = expected_calibration_error(Y_TRUE, PROBABILITIES, num_bins=1)
    assert error == pytest.approx(0.76 - 0.6)


@settings(max_examples=50, deadline=None)
@given(predictions(), st.integers(1, 20))
def test_calibration_error_is_the_weighted_mean_gap_of_the_reliability_bins(
    prediction, num_bins
):
    confidence, accuracy, count = reliability_bins(*prediction, num_bins=num_bins)
    filled = count > 0
    gaps = np.abs(accuracy - confidence)[filled]
    expected = np.average(gaps, weights=count[filled])
    error = expected_calibration_error(*prediction, num_bins=num_bins)
    assert error == pytest.approx(expected)


def test_calibration_error_vanishes_when_confidence_equals_accuracy():
    probabilities = np.tile([0.75, 0.25], (8, 1))
    y_true = np.array([0, 0, 0, 1, 0, 0, 0, 1])
    assert expected_calibration_error(y_true, probabilities) == 0


def test_reliability_bins_of_five_rows_are_those_worked_out_by_hand():
    confidence, accuracy, count = reliability_bins(Y_TRUE, PROBABILITIES, num_bins=5)
    assert count.tolist() == [0, 0, 0, 3, 2]  # [0.6, 0.8) and [0.8, 1]
    nan = np.nan
    np.testing.assert_allclose(confidence, [nan, nan, nan, 2 / 3, 0.9])
    np.testing.assert_allclose(accuracy, [nan, nan, nan, 2 / 3, 0.5])


def test_reliability_bins_equal_the_calibration_curve_of_scikit_learn():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(4), 200)
    y_true = rng.integers(4, size=200)
    right = probabilities.argmax(axis=1) == y_true
    confidence, accuracy, count = reliability_bins(y_true, probabilities, num_bins=8)
    expected = calibration_curve(right, probabilities.max(axis=1), n_bins=8)
    np.testing.assert_allclose(accuracy[count > 0], expected[0])
    np.testing.assert_allclose(confidence[count > 0], expected[1])


def test_full_confidence_falls_into_the_last_bin():
    _, accuracy, count = reliability_bins([0, 1], np.eye(2), num_bins=4)
    assert count.tolist() == [0, 0, 0, 2] and accuracy[-1] == 1


# Odds of 4 to 1 become 2 to 1 at temperature 2, and 16 to 1 at temperature 1/2.
@pytest.mark.parametrize(("temperature", "odds"), [(1, 4), (2, 2), (0.5, 16)])
def test_applied_temperature_is_a_root_of_the_odds(temperature, odds):
    found = apply_temperature([[0.8, 0.2], [0.2, 0.8]], temperature)
    expected = np.array([[odds, 1], [1, odds]]) / (odds + 1)
    np.testing.assert_allclose(found, expected)


@settings(max_examples=50, deadline=None)
@given(predictions(), st.floats(0.01, 100))
def test_applied_temperature_equals_the_softmax_of_scipy(prediction, temperature):
    _, probabilities = prediction
    logits = np.log(probabilities.clip(np.finfo("float32").tiny))
    expected = special.softmax(logits / temperature, axis=1)
    found = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-300)


@settings(max_examples=50, deadline=None)
@given(predictions(), st.floats(1e-3, 1e3))
def test_applied_temperature_keeps_the_order_of_the_classes(prediction, temperature):
    _, probabilities = prediction
    found = apply_temperature(probabilities, temperature)
    assert np.isfinite(found).all() and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    by_class = np.take_along_axis(found, probabilities.argsort(axis=1), axis=1)
    assert (np.diff(by_class, axis=1) >= 0).all()


@settings(max_examples=50, deadline=None)
@given(predictions())
def test_temperature_one_changes_nothing(prediction):
    _, probabilities = prediction
    found = apply_temperature(probabilities, 1)
    np.testing.assert_allclose(found, probabilities, atol=1e-30)


def test_applied_temperature_makes_no_nan_of_extreme_input():
    with np.errstate(over="ignore"):
        coldest = apply_temperature([[0.6, 0.4], [1, 0]], 1e-308)
    np.testing.assert_array_equal(coldest, [[1, 0], [1, 0]])
    hottest = apply_temperature([[0.6, 0.4], [1, 0]], 1e308)
    np.testing.assert_array_equal(hottest, [[0.5, 0.5], [0.5, 0.5]])


# Three of four rows are right, so odds of 3 to 1 are calibrated. 9 = 3 ** 2 says them
# at temperature 2, and so does any other confidence at log(its odds) / log(3).
@pytest.mark.parametrize("confidence", [0.9, 0.75, 0.6, 0.999])
def test_fitted_temperature_makes_confidence_equal_accuracy(confidence):
    probabilities = np.tile([confidence, 1 - confidence], (4, 1))
    found = fit_temperature(probabilities, [0, 0, 1, 0])
    odds = confidence / (1 - confidence)
    assert found == pytest.approx(np.log(odds) / np.log(3), rel=1e-4)
    if confidence == 0.9:
        assert found == pytest.approx(2, rel=1e-4)
    calibrated = apply_temperature(probabilities, found)
    np.testing.assert_allclose(calibrated, [[0.75, 0.25]] * 4, rtol=1e-4)


def sample_sharpened(sharpness, *, n=20_000, dtype="float64"):
    """Labels drawn from a softmax, and that softmax of sharpened logits."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.normal(size=(n, 4))
    cumulative = special.softmax(logits, axis=1).cumsum(axis=1)
    y_true = (rng.random((n, 1)) > cumulative[:, :-1]).sum(axis=1)
    return special.softmax((sharpness * logits).astype(dtype), axis=1), y_true


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sharpness", [0.25, 1, 5])
def test_fitted_temperature_finds_by_how_much_the_logits_were_sharpened(
    sharpness, dtype
):
    probabilities, y_true = sample_sharpened(sharpness, dtype=dtype)
    found = fit_temperature(probabilities, y_true)
    assert found == pytest.approx(sharpness, rel=0.03)  # about three standard errors
    calibrated = apply_temperature(probabilities, found)
    before = expected_calibration_error(y_true, probabilities)
    assert expected_calibration_error(y_true, calibrated) < max(0.015, before / 5)
    assert fit_temperature(calibrated, y_true) == pytest.approx(1, rel=1e-3)


def test_fitted_temperature_is_the_best_of_a_fine_grid():
    probabilities, y_true = sample_sharpened(3, n=200)
    grid = np.exp(np.linspace(np.log(0.05), np.log(20), 3000))  # steps of 0.2 %
    calibrated = [special.log_softmax(np.log(probabilities) / t, axis=1) for t in grid]
    losses = [-scores[np.arange(200), y_true].mean() for scores in calibrated]
    best = grid[np.argmin(losses)]
    assert fit_temperature(probabilities, y_true) == pytest.approx(best, rel=0.002)


@settings(max_examples=50, deadline=None)
@given(predictions())
def test_fitted_temperature_is_in_its_range_and_does_not_raise_the_loss(prediction):
    y_true, probabilities = prediction
    temperature = fit_temperature(probabilities, y_true)
    assert 0.05 <= temperature <= 20
    rows = np.arange(len(y_true))
    calibrated = apply_temperature(probabilities, temperature)[rows, y_true]
    before = apply_temperature(probabilities, 1)[rows, y_true]
    assert -np.log(calibrated).mean() <= -np.log(before).mean() + 1e-6


@pytest.mark.parametrize(("y_true", "end"), [([0, 1], 0.05), ([1, 0], 20)])
def test_fitted_temperature_ends_at_its_bounds(y_true, end):
    # Always right: no temperature is too cold. Always wrong: none is too hot.
    found = fit_temperature([[0.6, 0.4], [0.4, 0.6]], y_true)
    assert found == pytest.approx(end, rel=1e-3)


ROWS = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: expected_calibration_error([], np.zeros((0, 2))),
            r"`y_true` .* Received: 0 rows",
        ),
        (
            lambda: reliability_bins([0, 1], ROWS, num_bins=0),
            r"`num_bins` .* Received: 0",
        ),
        (
            lambda: fit_temperature(np.zeros((0, 2)), []),
            r"`probabilities` .* n at least 1.* Received: \(0, 2\) .* \(0,\)",
        ),
        (
            lambda: fit_temperature(ROWS, [0, 2]),
            r"`y_true` must be in 0\.\.\.1.* Received: \[0, 2\]",
        ),
        (
            lambda: fit_temperature(ROWS, [-1, 0]),
            r"`y_true` .* Received: \[-1, 0\]",
        ),
        (
            lambda: fit_temperature(ROWS, [0.5, 0]),
            r"`y_true` .* Received: \[0.0, 0.5\]",
        ),
        (
            lambda: apply_temperature([0.5, 0.5], 1),
            r"`probabilities` must have shape .* Received: \(2,\)",
        ),
        (
            lambda: apply_temperature([[2, 1]], 1),
            r"`probabilities` .* sum to 1 .* Received: row sums 3\.\.\.3",
        ),
        (
            lambda: apply_temperature([[1.5, -0.5]], 1),
            r"`probabilities` must be at least 0",
        ),
        (
            lambda: apply_temperature([[np.nan, 1]], 1),
            r"`probabilities` .* Received: row sums nan",
        ),
        *(
            (
                lambda value=value: apply_temperature(ROWS, value),
                rf"`temperature` must be positive and finite\. Received: {value}",
            )
            for value in [0, -1.5, np.inf, np.nan]
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
