"""What holds for every function that takes labels and probabilities."""

import numpy as np
import pytest

from transfer_tutorial.evaluation import (
    classification_scores,
    expected_calibration_error,
    fit_temperature,
    reliability_bins,
)

ROWS = np.array([[0.5, 0.5], [0.2, 0.8]])
LOGITS = np.array([[2.0, 1.0], [0.0, 1.0]])
NEGATIVE = np.array([[1.5, -0.5], [0.5, 0.5]])
NOT_NUMBERS = np.array([[np.nan, 1], [0.5, 0.5]])
PROBABILITY_FUNCTIONS = [
    classification_scores,
    reliability_bins,
    expected_calibration_error,
    lambda y_true, probabilities: fit_temperature(probabilities, y_true),
]
NAMES = ["scores", "bins", "calibration error", "temperature"]


@pytest.mark.parametrize("function", PROBABILITY_FUNCTIONS, ids=NAMES)
@pytest.mark.parametrize(
    ("y_true", "probabilities", "message"),
    [
        ([0], ROWS, r"Received: \(2, 2\) for labels of shape \(1,\)"),
        ([0, 1], [0.5, 0.5], r"Received: \(2,\) for labels of shape \(2,\)"),
        ([0, 1], LOGITS, r"sum to 1 .* Received: row sums 1\.\.\.3"),
        ([0, 1], NEGATIVE, r"at least 0 .* Received: row sums 1\.\.\.1"),
        ([0, 1], NOT_NUMBERS, r"sum to 1 .* Received: row sums nan"),
    ],
    ids=["lengths", "one column", "logits", "negative", "nan"],
)
def test_what_are_no_probabilities_is_refused(function, y_true, probabilities, message):
    with pytest.raises(ValueError, match=rf"`probabilities` .*{message}"):
        function(y_true, probabilities)
