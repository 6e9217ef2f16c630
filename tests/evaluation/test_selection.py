import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import special, stats

from transfer_tutorial.evaluation import mean_entropy, soft_neighborhood_density


def make_probabilities(n, num_classes=4, seed=0, sharpness=2):
    logits = sharpness * np.random.default_rng(seed).normal(size=(n, num_classes))
    return special.softmax(logits, axis=1)


def compute_density(rows, temperature):
    """The formula, row by row."""
    entropies = []
    for i, row in enumerate(rows):
        others = np.delete(rows, i, axis=0)
        cosines = [
            row @ other / np.linalg.norm(row) / np.linalg.norm(other)
            for other in others
        ]
        entropies.append(
            stats.entropy(special.softmax(np.array(cosines) / temperature))
        )
    return np.mean(entropies)


# Entropy


def test_entropy_of_three_rows_is_the_one_worked_out_by_hand():
    # log 2 for a coin, 0 for a certain row, and (1/4) log 4 + (3/4) log (4/3)
    probabilities = [[0.5, 0.5], [1, 0], [0.25, 0.75]]
    third = math.log(4) - 0.75 * math.log(3)
    expected = (math.log(2) + 0 + third) / 3
    assert mean_entropy(probabilities) == pytest.approx(expected)


def test_entropy_is_the_mean_of_scipys():
    probabilities = make_probabilities(30)
    expected = stats.entropy(probabilities, axis=1).mean()
    assert mean_entropy(probabilities) == pytest.approx(expected)


def test_entropy_is_lower_for_a_surer_model():
    found = [mean_entropy(make_probabilities(50, sharpness=s)) for s in (0, 1, 2, 9)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(math.log(4))


def test_all_rows_in_one_class_look_perfect_to_both_scores():
    collapsed = np.tile([1.0, 0, 0], (9, 1))
    assert mean_entropy(collapsed) == 0
    assert soft_neighborhood_density(collapsed) == pytest.approx(math.log(8))


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones(3), r"`probabilities` must have shape .* Received: \(3,\)"),
        (np.ones((0, 3)), r"`probabilities` .* n at least 1. Received: \(0, 3\)"),
        (np.ones((3, 0)), "`probabilities` must have shape"),
        ([[3.0, 1.0]], "sum to 1 in every row. Received: row sums 4...4"),  # logits
        ([[0.5, np.nan]], "`probabilities` must be at least 0"),
        ([[1.5, -0.5]], "`probabilities` must be at least 0"),
    ],
)
def test_what_is_no_probability_has_no_entropy(probabilities, message):
    with pytest.raises(ValueError, match=message):
        mean_entropy(probabilities)


# Density


def test_density_of_three_rows_is_the_one_worked_out_by_hand():
    # Cosines: 1 between the first two, 0 to the third. At temperature 1 / log 3 the
    # first two have the odds 3 to 1, the third 1 to 1.
    rows = np.array([[1.0, 0], [5, 0], [0, 2]])
    entropy = math.log(4) - 0.75 * math.log(3)
    expected = (2 * entropy + math.log(2)) / 3
    found = soft_neighborhood_density(rows, temperature=1 / math.log(3))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2])
def test_density_is_the_formula_row_by_row(temperature):
    for rows in (make_probabilities(20), np.random.default_rng(1).normal(size=(15, 3))):
        expected = compute_density(rows, temperature)
        found = soft_neighborhood_density(rows, temperature=temperature)
        assert found == pytest.approx(expected)


def test_the_default_temperature_is_the_one_of_the_paper():
    rows = make_probabilities(20)
    expected = compute_density(rows, 0.05)
    assert soft_neighborhood_density(rows) == pytest.approx(expected)


def test_density_is_higher_for_tight_clusters_than_for_scattered_rows():
    rng = np.random.default_rng(0)
    centres = np.repeat(np.eye(3), 20, axis=0)
    noise = rng.normal(size=centres.shape)
    found = [soft_neighborhood_density(centres + s * noise) for s in (0, 0.1, 0.5)]
    assert found == sorted(found, reverse=True)
    # Clusters of 20 with nobody else in sight: 19 equal neighbours each.
    assert found[0] == pytest.approx(math.log(19), abs=1e-6)


def test_two_rows_have_density_zero_and_the_order_and_scale_do_not_count():
    rows = make_probabilities(12)
    assert soft_neighborhood_density(rows[:2]) == pytest.approx(0)
    expected = soft_neighborhood_density(rows)
    assert soft_neighborhood_density(1e200 * rows[::-1]) == pytest.approx(expected)
    assert soft_neighborhood_density(1e-200 * rows) == pytest.approx(expected)


def test_the_input_stays_as_it_is():
    rows = make_probabilities(6)
    before = rows.copy()
    mean_entropy(rows)
    soft_neighborhood_density(rows)
    np.testing.assert_array_equal(rows, before)


@given(
    arrays(
        "float64",
        st.tuples(st.integers(2, 8), st.integers(1, 4)),
        elements=st.floats(-1e300, 1e300, allow_subnormal=False),
    ),
    st.floats(1e-308, 1e308),
)
@settings(max_examples=80, deadline=None)
def test_density_is_finite_and_between_its_bounds(rows, temperature):
    rows = np.where(np.abs(rows).max(axis=1, keepdims=True) == 0, 1, rows)
    found = soft_neighborhood_density(rows, temperature=temperature)
    assert -1e-9 <= found <= math.log(len(rows) - 1) + 1e-9


@given(
    arrays(
        "float64",
        st.tuples(st.integers(1, 8), st.integers(1, 5)),
        elements=st.floats(0, 1),
    )
)
@settings(max_examples=80, deadline=None)
def test_entropy_is_finite_and_between_its_bounds(scores):
    scores[:, 0] += 0.1
    found = mean_entropy(scores / scores.sum(axis=1, keepdims=True))
    assert 0 <= found <= math.log(scores.shape[1]) + 1e-9


@pytest.mark.parametrize(
    ("rows", "temperature", "message"),
    [
        (np.ones(3), 0.05, r"`probabilities_or_features` .* shape \(3,\)"),
        (np.ones((1, 3)), 0.05, r"n at least 2. Received: shape \(1, 3\)"),
        ([[1, np.nan], [1, 1]], 0.05, "1 values not finite"),
        ([[1, np.inf], [1, 1]], 0.05, "1 values not finite"),
        ([[0, 0], [1, 1]], 0.05, "Received: 1 rows of zeros"),
        (np.ones((3, 0)), 0.05, "Received: 3 rows of zeros"),
        (np.ones((3, 2)), 0, "`temperature` be positive.* temperature=0"),
        (np.ones((3, 2)), np.nan, "temperature=nan"),
        (np.ones((3, 2)), -1, "temperature=-1"),
    ],
)
def test_what_has_no_neighbourhoods_is_refused(rows, temperature, message):
    with pytest.raises(ValueError, match=message):
        soft_neighborhood_density(rows, temperature=temperature)
