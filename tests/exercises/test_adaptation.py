"""Each check tells the mistakes that readers make, and what to do about them."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.tree import DecisionTreeClassifier

from transfer_tutorial import exercises, transferability


def choose_view(source, views, *, classifier=None, held_out=True, sign=1):
    classifier = classifier or LogisticRegression(max_iter=1000)

    def told_apart(view):
        x = np.concatenate([source, view])
        y = np.repeat([0, 1], [len(source), len(view)])
        if not held_out:
            return classifier.fit(x, y).score(x, y)
        return cross_val_score(classifier, x, y, cv=5).mean()

    return min(views, key=lambda name: sign * told_apart(views[name]))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (choose_view, "Right."),
        (lambda s, v: choose_view(s, v, held_out=False), "which rows do you ask"),
        (lambda s, v: choose_view(s, v, sign=-1), "the other end"),
        (lambda s, v: v["alike"].mean(), "one of the names"),
        (lambda s, v: None, "no answer yet"),
    ],
)
def test_view_choice_names_the_mistake(wrong, sentence):
    assert sentence in exercises.check_view_choice(wrong)


@pytest.mark.parametrize(
    "classifier",
    [
        LogisticRegression(C=0.01),
        KNeighborsClassifier(),
        DecisionTreeClassifier(max_depth=3),
    ],
)
def test_view_choice_leaves_the_classifier_to_the_reader(classifier):
    def choose(source, views):
        return choose_view(source, views, classifier=classifier)

    assert exercises.check_view_choice(choose).startswith("Right.")


def test_view_choice_accepts_the_distance_of_the_package():
    def choose(source, views):
        distance = transferability.proxy_a_distance
        return min(views, key=lambda name: distance(source, views[name]))

    assert exercises.check_view_choice(choose).startswith("Right.")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ((0, 1), "of the picture that was replaced"),
        ((2, 0.1), "how often is it right"),
        ((2, 1), "how often is it right"),
        ((0, 0), "by chance some"),
        ((1, 0.1), "0.5 is the error"),
    ],
)
def test_destroyed_view_names_the_mistake(wrong, sentence):
    said = exercises.check_destroyed_view(wrong)
    assert said.startswith("Not yet:") and sentence in said


def adabn(
    z, mean, variance, gamma, beta, epsilon, *, own=(True, True), axis=0, power=0.5
):
    mean = z.mean(axis=axis) if own[0] else mean
    variance = z.var(axis=axis) if own[1] else variance
    return (z - mean) / (variance + epsilon) ** power * gamma + beta


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"own": (False, False)}, "still those of the source"),
        ({"own": (True, False)}, "still those of the source"),
        ({"axis": None}, "of its own"),
        ({"power": 1}, "take its square root"),
    ],
)
def test_adabn_names_the_mistake(wrong, sentence):
    said = exercises.check_adabn(lambda *args: adabn(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_adabn_needs_gamma_and_beta():
    said = exercises.check_adabn(lambda z, m, v, g, b, e: adabn(z, m, v, 1, 0, e))
    assert "gamma and beta are missing" in said


@pytest.mark.parametrize(
    ("share", "sentence"), [(0.5, "before AdaBN"), (0.1, "one picture in ten")]
)
def test_moved_threshold_names_the_mistake(share, sentence):
    feature = np.repeat([0, 1], [round(100 * (1 - share)), round(100 * share)])
    assert sentence in exercises.check_moved_threshold(feature.mean())
    assert "normalised" in exercises.check_moved_threshold(0.0)


def flattery(accuracy, rule, *, chosen=None):
    picks = rule.argmax(axis=1) if chosen is None else chosen
    return np.mean(accuracy.max(axis=1) - accuracy[np.arange(len(rule)), picks])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda a, r: -flattery(a, r), "sign"),
        (lambda a, r: a.max(axis=1).mean() - a.mean(), "takes all settings"),
        (
            lambda a, r: a.mean(axis=0).max() - a.mean(axis=0)[r.mean(axis=0).argmax()],
            "for itself",
        ),
        (lambda a, r: (a.max(axis=1) - r.max(axis=1)).mean(), "the rule's values"),
        (lambda a, r: flattery(a, r, chosen=r.argmin(axis=1)), "must be"),
    ],
)
def test_flattery_names_the_mistake(wrong, sentence):
    said = exercises.check_flattery(wrong)
    assert said.startswith("Not yet:") and sentence in said


def ask_labels(
    x, y, fit_scratch, fit_source, *, folds=None, leak=False, parts=3, tie=0
):
    folds = folds or StratifiedKFold(3)
    lead = 0
    for learn, look in list(folds.split(x, y))[:parts]:
        rows = np.arange(len(y)) if leak else learn
        for sign, fit in ((-1, fit_scratch), (1, fit_source)):
            lead += sign * np.sum(fit(x[rows], y[rows])(x[look]) == y[look])
    return lead + tie > 0


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"leak": True}, "by heart"),
        ({"folds": KFold(3)}, "a class is missing"),
        ({"parts": 1}, "all three parts. Asked about: 8 of 24"),
        ({"tie": 1}, "a tie is for scratch"),
        ({"tie": -99}, "held-out rows: True"),
        ({"folds": StratifiedKFold(3, shuffle=True, random_state=7)}, "Right."),
    ],
)
def test_asking_labels_names_the_mistake(wrong, sentence):
    said = exercises.check_asking_labels(lambda *args: ask_labels(*args, **wrong))
    assert sentence in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["LEEP", "gain of the kept head"], "'LEEP' learns from the target's labels"),
        (["CKA with labels"], "'CKA with labels' compares the features"),
        (["LogME"], "'LogME' compares the features"),
        (["accuracy at home"], "renamed in the same way"),
        (["distance on features"], "looks at features only"),
        (["gain of a new head"], "the head is new"),
        (["kept head"], "names of the start. Received: kept head"),
        ([], "one of them changes"),
        ("gain of the kept head", "Right."),
    ],
)
def test_renamed_classes_names_the_mistake(wrong, sentence):
    assert sentence in exercises.check_renamed_classes(wrong)
