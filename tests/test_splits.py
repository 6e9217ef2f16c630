import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_tutorial.splits import few_shot_indices, split_three_ways


def make_rows(*class_sizes):
    """Row numbers, and labels of classes of these sizes in a shuffled order."""
    y = np.repeat(np.arange(len(class_sizes)), class_sizes)
    return np.arange(len(y)), np.random.default_rng(0).permutation(y)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(3, 40), min_size=2, max_size=5),
    st.permutations([0.98, 0.01, 0.01]) | st.permutations([0.6, 0.2, 0.2]),
    st.integers(0, 99),
)
def test_split_puts_every_row_in_one_part_and_every_class_in_all(
    class_sizes, fractions, seed
):
    x, y = make_rows(*class_sizes)
    parts = split_three_ways(x, y, fractions=fractions, seed=seed)
    assert sorted(np.concatenate([rows for rows, _ in parts])) == x.tolist()
    assert [len(np.unique(labels)) for _, labels in parts] == [len(class_sizes)] * 3


def test_split_keeps_labels_with_their_rows():
    x, y = make_rows(20, 30)
    for part_x, part_y in split_three_ways(x, y):
        np.testing.assert_array_equal(part_y, y[part_x])


def test_split_gives_every_class_the_fractions_asked_for():
    x, y = make_rows(20, 60)
    parts = split_three_ways(x, y, fractions=(0.5, 0.3, 0.2))
    counts = [np.bincount(part_y).tolist() for _, part_y in parts]
    assert counts == [[10, 30], [6, 18], [4, 12]]


def test_split_takes_arrays_of_any_shape():
    y = make_rows(10, 10)[1]
    images = np.arange(20 * 12).reshape(20, 2, 2, 3)
    (train, _), (validation, _), (test, _) = split_three_ways(images, y)
    assert train.shape == (12, 2, 2, 3)
    assert validation.shape == test.shape == (4, 2, 2, 3)


def test_split_repeats_with_the_same_seed_and_differs_with_another():
    x, y = make_rows(50, 50)
    first, again, other = (split_three_ways(x, y, seed=s)[2][0] for s in (1, 1, 2))
    assert set(first) == set(again) != set(other)


def test_split_mixes_rows_and_classes_that_came_sorted():
    for rows, y in split_three_ways(np.arange(200), np.repeat([0, 1], 100)):
        assert np.any(np.diff(rows[y == 0]) < 0) and np.any(np.diff(y) < 0)


def test_few_shot_indices_are_balanced_sorted_and_drawn_without_replacement():
    y = make_rows(9, 5, 12)[1]
    rows = few_shot_indices(y, 5)
    assert np.bincount(y[rows]).tolist() == [5, 5, 5]
    assert np.all(np.diff(rows) > 0)


def test_few_shot_indices_of_more_shots_contain_those_of_fewer():
    y = make_rows(30, 30, 30)[1]
    draws = [set(few_shot_indices(y, shots, seed=7)) for shots in (1, 5, 20)]
    assert draws[0] < draws[1] < draws[2]


def test_few_shot_indices_repeat_with_the_same_seed_and_differ_with_another():
    y = make_rows(100, 100)[1]
    first, again, other = (set(few_shot_indices(y, 10, seed=s)) for s in (1, 1, 2))
    assert first == again != other


def test_few_shot_indices_can_draw_every_row():
    y = make_rows(6, 6)[1]
    drawn = [few_shot_indices(y, 2, seed=seed) for seed in range(100)]
    assert set(np.concatenate(drawn)) == set(range(12))


def test_few_shot_indices_take_any_labels():
    y = np.array([7, -1, 7, -1, 7])
    assert sorted(y[few_shot_indices(y, 2)]) == [-1, -1, 7, 7]


ROWS, LABELS = make_rows(10, 10, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: split_three_ways(ROWS[:-1], LABELS),
            r"`x` and `y` .* Received: len\(x\)=23, len\(y\)=24",
        ),
        (
            lambda: split_three_ways(ROWS, LABELS, fractions=(0.8, 0.2)),
            r"`fractions` .* Received: fractions=\(0.8, 0.2\)",
        ),
        (
            lambda: split_three_ways(ROWS, LABELS, fractions=(0.8, 0.2, 0)),
            r"`fractions` .* Received: fractions=\(0.8, 0.2, 0\)",
        ),
        (
            lambda: split_three_ways(ROWS, LABELS, fractions=(0.8, 0.4, 0.2)),
            r"`fractions` .* Received: fractions=\(0.8, 0.4, 0.2\)",
        ),
        (
            lambda: split_three_ways(ROWS[:5], [0, 0, 0, 1, 1]),
            r"`y` .* three rows of every class.* Received: \{0: 3, 1: 2\}",
        ),
        (lambda: split_three_ways([], []), r"`y` .* Received: \{\}"),
        (
            lambda: few_shot_indices(LABELS, 5),
            r"`shots` .* Received: shots=5, but class 2 has 4 rows",
        ),
        (
            lambda: few_shot_indices(LABELS, 0),
            r"`shots` .* Received: shots=0, len\(y\)=24",
        ),
        (
            lambda: few_shot_indices([], 1),
            r"`y` must not be empty.* Received: shots=1, len\(y\)=0",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(call, message):
    with pytest.raises(ValueError, match=message):
        call()
