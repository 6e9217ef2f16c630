"""Each check tells the mistakes that readers make, and what to do about them."""

import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit

from transfer_tutorial import exercises


def deal_out(x, y, seed, *, order="one", sizes=(24, 32, 40), fixed=None):
    rng = np.random.default_rng(seed if fixed is None else fixed)
    rows = np.arange(len(y)) if order == "file" else rng.permutation(len(y))
    labels = y[rng.permutation(len(y))] if order == "two" else y[rows]
    if order == "again":
        rows = rng.integers(len(y), size=len(y))
        labels = y[rows]
    first, second, last = sizes
    cuts = slice(first), slice(first, second), slice(second, last)
    return [(x[rows[cut]], labels[cut]) for cut in cuts]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"order": "file"}, "lacks whole classes"),
        ({"order": "two"}, "one order must serve both"),
        ({"order": "again"}, "in two places"),
        ({"sizes": (32, 40, 40)}, r"Received: [32, 8, 0]"),
        ({"fixed": 0}, "another `seed`"),
    ],
)
def test_three_parts_names_the_mistake(wrong, sentence):
    said = exercises.check_three_parts(lambda *args: deal_out(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_three_parts_wants_three_pairs():
    said = exercises.check_three_parts(lambda x, y, seed: [x[:24], x[24:32], x[32:]])
    assert "three pairs" in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda p: 2 / (1 / p + 1 / 1), "the F1 of class 0"),
        (lambda p: p, "the accuracy"),
        (lambda p: p * 2 * p / (p + 1) + (1 - p) * 0, "not their share"),
        (lambda p: np.mean([np.mean([p, 1]), 0]), "harmonic mean"),
    ],
)
def test_constant_f1_names_the_mistake(wrong, sentence):
    said = exercises.check_constant_f1(wrong)
    assert said.startswith("Not yet:") and sentence in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda goal, shots, a: np.interp(goal, a, shots), "straight in the labels"),
        (lambda goal, shots, a: np.interp(goal, a, np.log(shots)), "turn it into"),
        (lambda goal, shots, a: shots[np.searchsorted(a, goal)], "the next size"),
        (lambda goal, shots, a: np.interp(goal, shots, a), "are swapped"),
    ],
)
def test_labels_needed_names_the_mistake(wrong, sentence):
    said = exercises.check_labels_needed(wrong)
    assert said.startswith("Not yet:") and sentence in said


def find_single_inputs(network):
    """Wrong: looks at the next layer only."""
    names = list(network)
    pairs = zip(names, names[1:], strict=False)
    return [name for name, above in pairs if network[above] == [name]]


def find_cuts(network, *, last=False):
    names, cuts = list(network), []
    for i, name in enumerate(names):
        if all(set(network[above]) <= set(names[i:]) for above in names[i + 1 :]):
            cuts.append(name)
    return cuts if last else cuts[:-1]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (find_single_inputs, "a skip goes round"),
        (lambda n: [*find_cuts(n), "right"], "two branches"),
        (lambda n: find_cuts(n, last=True), "above the last layer"),
        (lambda n: [x for x in n if len(n[x]) > 1], "after 'mean' one may cut"),
        (lambda n: ["picture", *find_cuts(n)], "no layers: ['picture']"),
    ],
)
def test_cuts_names_the_mistake(wrong, sentence):
    said = exercises.check_cuts(wrong)
    assert said.startswith("Not yet:") and sentence in said


def count_cost(rows, validation, head, backbone, *, frozen=1, free=3, seen=1, cache=0):
    epochs = 1 if cache else head
    forward = frozen * epochs * rows + free * backbone * rows
    return forward + seen * (head + backbone) * validation


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"seen": 0}, "validation is forgotten"),
        ({"frozen": 3}, "no way back"),
        ({"free": 1}, "go back through"),
        ({"cache": 1}, "new every epoch"),
    ],
)
def test_fine_tuning_cost_names_the_mistake(wrong, sentence):
    said = exercises.check_fine_tuning_cost(lambda *args: count_cost(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("ABDF", "B is not one of them: it is fitted on labelled training rows"),
        ("ADE", "E is not one of them"),
        (["A", "D"], "look at F once more: it reports the luckiest"),
        (["A", "Z"], "no line of the plan"),
        ([], "look at A once more"),
    ],
)
def test_test_choices_names_the_mistake(wrong, sentence):
    said = exercises.check_test_choices(wrong)
    assert said.startswith("Not yet:") and sentence in said


def split_pictures(owner, seed, *, of=None):
    things = np.arange(len(owner)) if of is None else np.unique(of)
    drawn = np.random.default_rng(seed).permutation(things)[: len(things) // 5]
    test = np.isin(np.arange(len(owner)) if of is None else of, drawn)
    return np.flatnonzero(~test), np.flatnonzero(test)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (split_pictures, "objects are on both sides"),
        (lambda o, s: split_pictures(o, 0, of=o), "another `seed`"),
        (lambda o, s: split_pictures(o, s, of=o)[::-1], "Received: 20"),
        (lambda o, s: np.unique(o)[[[0], [1]]], "exactly one of the parts"),
        (lambda o, s: split_pictures(o, s, of=o)[1], "return two arrays"),
    ],
)
def test_object_split_names_the_mistake(wrong, sentence):
    said = exercises.check_object_split(wrong)
    assert said.startswith("Not yet:") and sentence in said


def test_object_split_of_scikit_learn_is_right():
    def split(owner, seed):
        splitter = GroupShuffleSplit(1, test_size=0.2, random_state=seed)
        return next(splitter.split(owner, groups=owner))

    assert exercises.check_object_split(split).startswith("Right.")


def test_three_parts_may_be_shuffled_in_place():
    def split(x, y, seed):
        rows = np.random.default_rng(seed).permutation(len(y))
        x[:], y[:] = x[rows], y[rows]
        return [(x[cut], y[cut]) for cut in np.split(np.arange(40), [24, 32])]

    assert exercises.check_three_parts(split).startswith("Right.")


def rearrange(p, saved, listed):
    return np.stack(
        [p[:, saved.index(x)] if x in saved else 0 * p[:, 0] for x in listed], axis=1
    )


def fill_in(p, saved, listed):
    """Wrong: zeros where a folder is new, the rest in the order of `saved`."""
    right = np.zeros((len(p), len(listed)))
    right[:, [name in saved for name in listed]] = p
    return right


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda p, s, new: np.pad(p, ((0, 0), (0, len(new) - len(s)))), "column 0"),
        (fill_in, "not in order"),
        (
            lambda p, s, new: rearrange(p, s, [x for x in new if x in s]),
            "lack a column",
        ),
        (lambda p, s, new: p, "nothing has moved"),
    ],
)
def test_class_order_names_the_mistake(wrong, sentence):
    said = exercises.check_class_order(wrong)
    assert said.startswith("Not yet:") and sentence in said
