import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from transfer_tutorial.evaluation import (
    classification_scores,
    expected_calibration_error,
)


@st.composite
def predictions(draw):
    """Labels in which every class occurs, and probabilities, some of them tied."""
    num_classes = draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 9999)))
    extra = rng.integers(num_classes, size=draw(st.integers(0, 30)))
    y_true = np.concatenate([np.arange(num_classes), extra])
    weights = rng.integers(1, draw(st.sampled_from([3, 1000])), (len(y_true), 5))
    probabilities = weights[:, :num_classes].astype("float64")
    return y_true, probabilities / probabilities.sum(axis=1, keepdims=True)


# Five rows: confidence 0.9 right, 0.9 wrong, 0.7 right, 0.7 right, 0.6 wrong.
Y_TRUE = np.array([0, 1, 1, 0, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.7, 0.3], [0.6, 0.4]])


@settings(max_examples=50, deadline=None)
@given(predictions())
def test_scores_equal_those_of_scikit_learn(prediction):
    y_true, probabilities = prediction
    y_pred = probabilities.argmax(axis=1)
    positive = probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities
    scores = classification_scores(y_true, probabilities)
    assert scores["accuracy"] == accuracy_score(y_true, y_pred)
    assert scores["macro_f1"] == f1_score(y_true, y_pred, average="macro")
    expected = roc_auc_score(y_true, positive, multi_class="ovr")
    assert scores["roc_auc_ovr"] == pytest.approx(expected)


def test_scores_of_five_rows_are_those_worked_out_by_hand():
    scores = classification_scores(Y_TRUE, PROBABILITIES)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    # Class 0: two hits, two false alarms, no miss; class 1: one, none and two.
    assert scores["macro_f1"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    # Of the six pairs (a row of class 1, one of class 0), the probability of class 1
    # is larger in four; the pair (0.1, 0.1) is a tie and counts one half.
    assert scores["roc_auc_ovr"] == pytest.approx(4.5 / 6)


def test_scores_of_a_perfect_classifier_are_one_and_its_calibration_error_zero():
    scores = classification_scores([0, 1, 2], np.eye(3))
    assert scores == {
        "accuracy": 1,
        "macro_f1": 1,
        "roc_auc_ovr": 1,
        "expected_calibration_error": 0,
    }


def test_scores_accept_the_rounding_of_a_float32_softmax():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(50, 100)).astype("float32")
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert probabilities.dtype == "float32" and np.any(probabilities.sum(axis=1) != 1)
    y_true = np.arange(100).repeat(2)
    scores = classification_scores(y_true, np.tile(probabilities, (4, 1)))
    assert 0 <= scores["roc_auc_ovr"] <= 1


@settings(max_examples=50, deadline=None)
@given(predictions())
def test_scores_contain_the_expected_calibration_error_of_fifteen_bins(prediction):
    scores = classification_scores(*prediction)
    expected = expected_calibration_error(*prediction, num_bins=15)
    assert scores["expected_calibration_error"] == pytest.approx(expected)


ROWS = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: classification_scores([0, 0], ROWS),
            r"`y_true` must contain every class in 0\.\.\.1 .* Received: \[0\]",
        ),
        (
            lambda: classification_scores([0, 2], ROWS),
            r"`y_true` .* no other.* Received: \[0, 2\]",
        ),
        (
            lambda: classification_scores([], np.zeros((0, 2))),
            r"`y_true` .* Received: \[\]",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
