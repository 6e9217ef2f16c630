"""Checks for the exercises of the chapters on pictures."""

import numpy as np

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


@answers("Whole parts, whole pairs, and no row twice: the rest can be believed.")
def check_three_parts(answer):
    """Check the exercise of `code/article_repaired`: rows dealt out to three parts.

    Args:
        answer: A function of `x` (n, d), the labels `y` (n,) and a `seed`. It returns
            three pairs (x, y), with 0.6, 0.2 and 0.2 of the rows.
    """
    expect_function(answer)
    x, y = np.arange(120).reshape(40, 3), np.arange(40) // 10
    parts = answer(x, y, 0)
    if parts is None or [len(part) for part in parts] != [2, 2, 2]:
        raise NotYet("return three pairs, (x, y) of each part.")
    sizes = [len(labels) for _, labels in parts]
    if sizes != [24, 8, 8] or sizes != [len(rows) for rows, _ in parts]:
        raise NotYet(f"of 40 rows the parts must get 24, 8, 8. Received: {sizes}")
    rows = np.concatenate([part for part, _ in parts])[:, 0] // 3
    if not np.array_equal(rows // 10, np.concatenate([labels for _, labels in parts])):
        raise NotYet("pictures have the labels of others: one order must serve both.")
    if len(np.unique(rows)) < 40:
        raise NotYet("some rows are in two places, and others in none.")
    if np.array_equal(rows, np.arange(40)):
        raise NotYet("in the order of the file, a part lacks whole classes: draw rows.")
    if np.array_equal(rows[:24], answer(x, y, 1)[0][0][:, 0] // 3):
        raise NotYet("another `seed` must draw other rows.")


@answers("The larger the other class, the kinder accuracy; macro-F1 stays below 1/2.")
def check_constant_f1(answer):
    """Check the exercise of `code/article_repaired`: F1 of a constant answer.

    Args:
        answer: A function of the `share` of class 0 among the rows, in (0, 1). It
            returns the macro-F1 of a classifier that says class 0 of every row.
    """
    expect_function(answer)
    share = 0.7
    one_class = 2 * share / (share + 1)
    mistakes = [
        (one_class, "this is the F1 of class 0. The other class has one as well."),
        (share, "this is the accuracy, and F1 with micro averages too."),
        (share * one_class, "macro gives both classes one weight, not their share."),
        ((share + 1) / 4, "F1 is the harmonic mean of precision and recall."),
    ]
    expect(answer(share), one_class / 2, mistakes=mistakes)


@answers("The ratio of two such numbers is what transfer saves in labelling.")
def check_labels_needed(answer):
    """Check the exercise of `code/images_from_scratch`: a curve read sideways.

    Args:
        answer: A function of the accuracy to reach, `goal`, of the numbers of labels
            `shots` (k,) and of the `accuracy` (k,) at each, both increasing. It returns
            how many labels a class the goal takes.
    """
    expect_function(answer)
    shots, accuracy, goal = np.array([5, 20, 100]), np.array([0.42, 0.56, 0.71]), 0.62
    way = (goal - 0.56) / (0.71 - 0.56)
    mistakes = [
        (20 + way * 80, "this line is straight in the labels, not in their logarithm."),
        (np.log(20) + way * np.log(5), "this is the logarithm: turn it into labels."),
        (100, "this is the next size of the curve; the goal lies before it."),
        (0.42, "that is an accuracy, read upwards: labels and accuracy are swapped."),
    ]
    expect(answer(goal, shots, accuracy), 20 * 5**way, mistakes=mistakes)


@answers("What lies below such a layer can run once; nothing passes it by.")
def check_cuts(answer):
    """Check the exercise of `code/images_imagenet`: where a network may be cut.

    Args:
        answer: A function of a `network`, a dictionary from the name of each layer to
            the names of its inputs, ordered from input to output. It returns the names
            of the layers after which one may cut, without the last.
    """
    expect_function(answer)
    network = {"stem": ["picture"], "pool": ["stem"], "conv": ["pool"]}
    network |= {"norm": ["conv"], "add": ["pool", "norm"], "left": ["add"]}
    network |= {"right": ["add"], "join": ["left", "right"], "mean": ["join"]}
    network |= {"head": ["mean"]}
    received, right = answer(network), {"stem", "pool", "add", "join", "mean"}
    if received is None:
        raise NotYet("there is no answer yet. Received: None")
    received = set(received)
    if {"conv", "norm"} & received:
        raise NotYet("after a layer that a skip goes round, `add` lacks its input.")
    if {"left", "right"} & received:
        raise NotYet("beside one of two branches the other goes on: both are needed.")
    if "head" in received:
        raise NotYet("above the last layer nothing is left to train.")
    if missing := sorted(right - received):
        raise NotYet(f"after {missing[0]!r} one may cut, too: all passes through it.")
    if received != right:
        raise NotYet(f"these are no layers: {sorted(map(str, received - right))}")


@answers("The frozen phase costs a third; a cache would save more, had it stood still.")
def check_fine_tuning_cost(answer):
    """Check the exercise of `code/cifar10_to_cifar100`: the cost of two phases.

    Args:
        answer: A function of the numbers of training `rows`, `validation_rows`,
            `head_epochs` and `backbone_epochs`. It returns the cost, in pictures on
            their way forward.
    """
    expect_function(answer)
    rows, validation, head, backbone = 1000, 300, 4, 7
    seen = (head + backbone) * validation
    right = head * rows + backbone * 3 * rows + seen
    mistakes = [
        (right - seen, "validation is forgotten: it costs after every epoch."),
        (3 * (head + backbone) * rows + seen, "a frozen backbone takes no way back."),
        (
            (head + backbone) * rows + seen,
            "once it is free, gradients go back through.",
        ),
        (rows + backbone * 3 * rows + seen, "augmented pictures are new every epoch."),
    ]
    expect(answer(rows, validation, head, backbone), right, mistakes=mistakes)


@answers("A choice made by test rows spoils them, whoever makes it and whenever.")
def check_test_choices(answer):
    """Check the exercise of `code/cifar10_to_cifar100`: choices by the test set.

    Args:
        answer: List of the letters of those lines of the plan, `"A"` to `"G"`, that
            make the score on CIFAR-100's test set too good.
    """
    if answer is None:
        raise NotYet("there is no answer yet. Received: None")
    harmless = {
        "B": "is fitted on labelled training rows; test rows only use the result.",
        "C": "watches validation rows, which is what they are for.",
        "E": "looks at the test set of the source, and decides nothing on the target.",
        "G": "opens the labels once, when nothing can be changed any more.",
    }
    harmful = {
        "A": "chooses the size for which the test rows happened to be kind.",
        "D": "stops at the epoch that suits the test rows.",
        "F": "reports the luckiest of five draws.",
    }
    received = set(answer)
    for letter in sorted(received):
        if letter not in harmful:
            known = harmless.get(letter, "is no line of the plan.")
            raise NotYet(f"{letter} is not one of them: it {known}")
    for letter in sorted(set(harmful) - received):
        raise NotYet(f"look at {letter} once more: it {harmful[letter]}")


@answers("Now the score speaks of objects that the classifier has not met.")
def check_object_split(answer):
    """Check the exercise of `code/your_own_data`: a split by object.

    Args:
        answer: A function of `owner` (n,), the number of the object that each picture
            shows, and a `seed`. It returns the rows to learn from and the rows to test
            on, a fifth of the objects.
    """
    expect_function(answer)
    numbers = np.repeat(10 * np.arange(25) + 3, np.tile([1, 2, 3, 4, 6], 5))
    owner = np.random.default_rng(0).permutation(numbers)
    parts = answer(owner, 0)
    if parts is None or len(parts) != 2:
        raise NotYet("return two arrays of rows, to learn from and to test on.")
    learn, test = map(np.ravel, parts)
    if sorted([*learn, *test]) != list(range(len(owner))):
        raise NotYet("each picture must be in exactly one of the parts, by its row.")
    if shared := set(owner[learn]) & set(owner[test]):
        raise NotYet(
            f"{len(shared)} of 25 objects are on both sides: deal out objects, not "
            "pictures."
        )
    if (tested := len(set(owner[test]))) != 5:
        raise NotYet(f"a fifth of 25 objects must be tested. Received: {tested}")
    if np.array_equal(np.sort(test), np.sort(answer(owner, 1)[1])):
        raise NotYet("another `seed` must draw other objects.")


@answers("A number means a class only together with the list that it was counted in.")
def check_class_order(answer):
    """Check the exercise of `code/your_own_data`: classes in another order.

    Args:
        answer: A function of probabilities `p` (n, c), of the names of their columns,
            `saved`, and of the names of the folders, `listed`. It returns them in the
            order of `listed` (n, k), with 0 for what the model does not know.
    """
    expect_function(answer)
    p = np.array([[0.5, 0.3, 0.2], [0.1, 0.65, 0.25]])
    saved, listed = ["cat", "dog", "frog"], ["bird", "frog", "cat", "emu", "dog"]
    right = np.stack([0 * p[:, 0], p[:, 2], p[:, 0], 0 * p[:, 0], p[:, 1]], axis=1)
    mistakes = [
        (np.pad(p, ((0, 0), (0, 2))), "column 0 is still the cat's, and called bird."),
        (np.insert(p, [0, 2], 0, axis=1), "new columns are in, old ones not in order."),
        (right[:, [1, 2, 4]], "folders that the model does not know lack a column."),
        (p, "nothing has moved: these are the columns of `saved`."),
    ]
    expect(answer(p, saved, listed), right, mistakes=mistakes)
