"""Each check tells the mistakes that readers make, and what to do about them."""

import keras
import numpy as np
import pytest
from scipy import stats

from transfer_tutorial import exercises


def gain(scores, *, baseline=max, best=False, each=False):
    means = {name: np.mean(s) for name, s in scores.items() if name != "linear probe"}
    chosen, probe = baseline(means, key=means.get), np.array(scores["linear probe"])
    if best:
        return probe.max() - max(scores[chosen])
    gains = probe - scores[chosen]
    return gains if each else gains.mean()


def gain_over_a_mixture(scores):
    pairs = zip(scores["raw pixels"], scores["scratch"], strict=True)
    return np.mean(scores["linear probe"]) - np.mean([max(pair) for pair in pairs])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda scores: gain(scores, baseline=min), "the weaker baseline"),
        (lambda scores: gain(scores, baseline=lambda m, key: "scratch"), "the weaker"),
        (
            lambda scores: gain(scores, baseline=lambda m, key: "raw pixels"),
            "the weaker",
        ),
        (gain_over_a_mixture, "from seed to seed"),
        (lambda scores: gain(scores, best=True), "luck"),
        (lambda scores: gain(scores, each=True), "give their mean"),
    ],
)
def test_gain_over_baselines_names_the_mistake(wrong, sentence):
    said = exercises.check_gain_over_baselines(wrong)
    assert said.startswith("Not yet:") and sentence in said


def build_probe(
    backbone,
    num_classes,
    *,
    frozen=True,
    activation="softmax",
    compiled=True,
    head=True,
):
    if frozen == "kernels":
        norm = backbone.get_layer("norm")
        backbone.get_layer("hidden").trainable = False
        norm.gamma.trainable = norm.beta.trainable = False
    else:
        backbone.trainable = not frozen
    output = keras.layers.Dense(num_classes, activation=activation)(backbone.output)
    classifier = keras.Model(backbone.input, output)
    classifier.trainable = head and classifier.trainable
    if compiled:
        classifier.compile("adam", "sparse_categorical_crossentropy")
    return classifier


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"frozen": False}, "has changed weights of the backbone"),
        ({"frozen": "kernels"}, "moving averages"),
        ({"head": False}, "everything is frozen"),
        ({"activation": None}, "a softmax"),
        ({"activation": "sigmoid"}, "a softmax"),
        ({"compiled": False}, "compiled"),
    ],
)
def test_probe_network_names_the_mistake(wrong, sentence):
    said = exercises.check_probe_network(lambda *args: build_probe(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


SETTINGS = {
    "a": "inductive",
    "b": "transductive",
    "c": "unsupervised",
    "d": "inductive",
    "e": "transductive",
}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"a": "transductive"}, "(a): other classes are another task"),
        ({"b": "unsupervised"}, "(b): the question is the same"),
        ({"c": "transductive"}, "(c): has anybody labelled"),
        ({"d": "unsupervised"}, "(d): a source may be without labels"),
        ({"e": "unsupervised"}, "(e): the name misleads"),
        (
            {"b": "supervised"},
            "(b) needs one of the three words. Received: 'supervised'",
        ),
        ({"f": "inductive"}, "one word for each of the letters a, b, c, d, e"),
    ],
)
def test_transfer_settings_gives_a_hint(wrong, sentence):
    said = exercises.check_transfer_settings(SETTINGS | wrong)
    assert said.startswith("Not yet:") and sentence in said


def compare_tables(source, target, *, domain="inputs", task="rows"):
    s, t = source / source.sum(), target / target.sum()
    axis = 0 if domain == "labels" else 1
    moved = np.abs(s.sum(axis=axis) - t.sum(axis=axis)).sum()
    if task != "joint":
        axis = 1 if task == "rows" else 0
        s, t = s / s.sum(axis=axis, keepdims=True), t / t.sum(axis=axis, keepdims=True)
    return moved if domain == "whole" else moved / 2, np.abs(s - t).max()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"domain": "labels"}, "a domain has no labels"),
        ({"task": "columns"}, "this compares P(X | Y)"),
        ({"task": "joint"}, "a rule is per input"),
        ({"domain": "whole"}, "halve the sum"),
    ],
)
def test_domain_and_task_names_the_mistake(wrong, sentence):
    said = exercises.check_domain_and_task(lambda *args: compare_tables(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def transplant(
    trained, fresh, cut, *, upper=False, cut_too=True, gradients=False, freeze=True
):
    fresh.trainable = freeze != "all"
    for layer in fresh.layers:
        above = layer.name in ("dense_2", "norm_2")
        twin = trained.get_layer(layer.name)
        if (above and not upper) or (layer.name == cut and not cut_too):
            continue
        if gradients:
            for ours, theirs in zip(
                layer.trainable_variables, twin.trainable_variables, strict=True
            ):
                ours.assign(theirs)
        else:
            layer.set_weights(twin.get_weights())
        layer.trainable = freeze is False


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"upper": True}, "layers above the cut have changed"),
        ({"cut_too": False}, "belongs to the lower part"),
        ({"gradients": True}, "moving averages"),
        ({"freeze": False}, "would still learn"),
        ({"freeze": "all"}, "must be able to learn"),
    ],
)
def test_transplant_names_the_mistake(wrong, sentence):
    said = exercises.check_transplant(lambda *args: transplant(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_transplant_notices_a_layer_left_out():
    def copy_the_cut(trained, fresh, cut):
        fresh.get_layer(cut).set_weights(trained.get_layer(cut).get_weights())

    assert "every weight must be" in exercises.check_transplant(copy_the_cut)


def test_transplant_accepts_the_right_one():
    assert exercises.check_transplant(transplant).startswith("Right.")


def rates_at_source(y_true, y_pred):
    return y_pred[y_true == 1].mean(), y_pred[y_true == 0].mean()


def precision_weighted(y_true, y_pred, target_pred):
    counted = target_pred.mean()
    meant = y_true[y_pred == 1].mean(), y_true[y_pred == 0].mean()
    return counted * meant[0] + (1 - counted) * meant[1]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda y, p, target: target.mean(), "the count itself"),
        (lambda y, p, target: y.mean(), "the source's share"),
        (lambda y, p, target: target.mean() / rates_at_source(y, p)[0], "false alarms"),
        (precision_weighted, "depends on the share"),
    ],
)
def test_adjusted_share_names_the_mistake(wrong, sentence):
    said = exercises.check_adjusted_share(wrong)
    assert said.startswith("Not yet:") and sentence in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda p, right: np.mean(right), "no row has a weight"),
        (lambda p, right: np.average(right, weights=p), "a ratio of two"),
        (lambda p, right: np.average(right, weights=(1 - p) / p), "upside down"),
        (lambda p, right: np.mean(p / (1 - p) * right), "the sum of the weights"),
    ],
)
def test_target_accuracy_names_the_mistake(wrong, sentence):
    said = exercises.check_target_accuracy(wrong)
    assert said.startswith("Not yet:") and sentence in said


def interval(a, b, *, ddof=1, quantile=None, shrink=True, paired=True):
    a, b = np.array(a), np.array(b)
    gains, n = b - a, len(a)
    spread = gains.std(ddof=ddof) if paired else np.sqrt(a.var(ddof=1) + b.var(ddof=1))
    t = quantile or stats.t.ppf(0.975, n - 1)
    margin = t * spread / (np.sqrt(n) if shrink else 1)
    return gains.mean() - margin, gains.mean() + margin


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"quantile": 1.96}, "1.96 is for many seeds"),
        ({"ddof": 0}, "n - 1"),
        ({"shrink": False}, "for single runs"),
        ({"paired": False}, "subtract first"),
    ],
)
def test_paired_interval_names_the_mistake(wrong, sentence):
    said = exercises.check_paired_interval(lambda *args: interval(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_paired_interval_notices_the_wrong_direction():
    said = exercises.check_paired_interval(lambda a, b: interval(b, a))
    assert "baseline minus transfer" in said


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda groups, test: np.setdiff1d(np.arange(10), test), "near-copies"),
        (lambda g, test: np.flatnonzero(np.isin(g, g[test])), "must not train"),
        (lambda g, test: np.flatnonzero(~np.isin(g, test)), "not of recordings"),
        (lambda g, test: ~np.isin(g, g[test]), "not one True or False"),
    ],
)
def test_training_rows_names_the_mistake(wrong, sentence):
    said = exercises.check_training_rows(wrong)
    assert said.startswith("Not yet:") and sentence in said
