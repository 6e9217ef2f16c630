"""Each check tells the mistakes that readers make, and what to do about them."""

import keras
import numpy as np
import pytest
from scipy import optimize, special
from sklearn.metrics import confusion_matrix

from transfer_tutorial import backbones, compression, evaluation, exercises
from transfer_tutorial.fine_tuning import freeze_batch_norm


def separable_work(
    side, kernel, inputs, outputs, *, depthwise=1, mixing=1, positions=2
):
    each = depthwise * kernel**2 * inputs + mixing * inputs * outputs
    return side**positions * each


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"positions": 0}, "these are the weights"),
        ({"positions": 1}, "side times side"),
        ({"mixing": 0}, "1 x 1 is missing"),
        ({"depthwise": 0}, "depthwise convolution is missing"),
    ],
)
def test_separable_work_names_the_mistake(wrong, sentence):
    said = exercises.check_separable_work(lambda *args: separable_work(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def build_convolutions(side, kernel, inputs, outputs, *, separable):
    first = keras.Input((side, side, inputs))
    if separable:
        x = keras.layers.DepthwiseConv2D(kernel, padding="same")(first)
        x = keras.layers.Conv2D(outputs, 1)(x)
    else:
        x = keras.layers.Conv2D(outputs, kernel, padding="same")(first)
    return compression.count_multiply_adds(keras.Model(first, x))


@pytest.mark.parametrize(
    ("separable", "sentence"), [(True, "Right."), (False, "one ordinary convolution")]
)
def test_separable_work_agrees_with_the_package(separable, sentence):
    def count(*args):
        return build_convolutions(*args, separable=separable)

    assert sentence in exercises.check_separable_work(count)


def test_separable_work_adds_the_two_convolutions():
    said = exercises.check_separable_work(lambda s, k, i, o: s**2 * k**2 * i * i * o)
    assert "add, not multiply" in said


def round_kernel(kernel, *, axis=0, rounding=np.round, back=True, magnitude=np.abs):
    step = magnitude(kernel).max(axis=axis, keepdims=True) / 127
    return rounding(kernel / step) * (step if back else 1)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"axis": None}, "one scale for all"),
        ({"axis": 1}, "each row has its scale"),
        ({"rounding": np.trunc}, "this cuts off"),
        ({"rounding": np.floor}, "this goes down"),
        ({"back": False}, "back to scale"),
        ({"magnitude": np.positive}, "of a negative weight"),
        ({"rounding": np.positive}, "nothing has been rounded"),
    ],
)
def test_rounded_kernel_names_the_mistake(wrong, sentence):
    said = exercises.check_rounded_kernel(lambda kernel: round_kernel(kernel, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def distill(
    teacher, student, t, *, power=2, swap=False, soft=True, own=True, pool=np.mean
):
    p = special.softmax(teacher / t, axis=1)
    q = special.softmax(student / (t if soft else 1), axis=1)
    if swap:
        p, q = q, p
    each = -(p * np.log(q)).sum(axis=1) + own * (p * np.log(p)).sum(axis=1)
    return t**power * pool(each)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"power": 0}, "factor in front is missing"),
        ({"power": 1}, "square of the temperature"),
        ({"swap": True}, "wrong way round"),
        ({"soft": False}, "only the teacher"),
        ({"own": False}, "this is the cross-entropy"),
        ({"pool": np.sum}, "not their sum"),
    ],
)
def test_distillation_names_the_mistake(wrong, sentence):
    said = exercises.check_distillation(lambda *args: distill(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_distillation_divides_by_the_temperature_as_the_package_does():
    said = exercises.check_distillation(
        lambda teacher, student, t: distill(teacher * t**2, student * t**2, t)
    )
    assert "this sharpens" in said

    def loss(teacher, student, t):
        rows = (special.softmax(z, axis=1) for z in (teacher, student))
        return np.mean(compression.distillation_loss(*rows, t))

    assert exercises.check_distillation(loss).startswith("Right.")


def old_answers_loss(new, labels, before, now, weight, *, learn=1, kind="kl"):
    before, now = (now, before) if kind == "swapped" else (before, now)
    before = np.eye(3)[before.argmax(axis=1)] if kind == "hard" else before
    keep = special.rel_entr(before, now).sum(axis=1).mean()
    if kind == "cross-entropy":
        keep = -(before * np.log(now)).sum(axis=1).mean()
    return learn * -np.log(new[np.arange(len(new)), labels]).mean() + weight * keep


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"learn": 0}, "loss of the new head is missing"),
        ({"kind": "swapped"}, "the wrong way round"),
        ({"kind": "hard"}, "keep the whole old answer"),
        ({"kind": "cross-entropy"}, "this is the cross-entropy"),
    ],
)
def test_old_answers_loss_names_the_mistake(wrong, sentence):
    said = exercises.check_old_answers_loss(lambda *a: old_answers_loss(*a, **wrong))
    assert said.startswith("Not yet:") and sentence in said


@pytest.mark.parametrize(
    ("weight", "sentence"), [(0, "nothing holds"), (1, "weight is missing")]
)
def test_old_answers_loss_needs_its_weight(weight, sentence):
    said = exercises.check_old_answers_loss(lambda *a: old_answers_loss(*a[:4], weight))
    assert sentence in said


def find_temperature(logits, labels, tried, *, apply=np.divide, score=None):
    def likelihood(p):
        return np.log(p[np.arange(len(labels)), labels]).mean()

    score = score or likelihood
    return max(tried, key=lambda t: score(special.softmax(apply(logits, t), axis=1)))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"apply": np.multiply}, "one over it"),
        ({"score": lambda p: p.max(axis=1).mean()}, "surest"),
        ({"score": lambda p: -p.max(axis=1).mean()}, "least sure"),
        ({"score": lambda p: np.bincount(p.argmax(axis=1))[0]}, "decisions only"),
    ],
)
def test_fitted_temperature_names_the_mistake(wrong, sentence):
    said = exercises.check_fitted_temperature(lambda *a: find_temperature(*a, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_fitted_temperature_minds_the_sign_and_agrees_with_the_package():
    def least(logits, labels, tried):
        def unlikely(p):
            return -np.log(p[np.arange(len(labels)), labels]).mean()

        return find_temperature(logits, labels, tried, score=unlikely)

    assert "mind the sign" in exercises.check_fitted_temperature(least)

    def nearest(logits, labels, tried):
        probabilities = special.softmax(logits, axis=1)
        found = evaluation.fit_temperature(probabilities, labels)
        return min(tried, key=lambda t: abs(np.log(t / found)))

    assert exercises.check_fitted_temperature(nearest).startswith("Right.")


def unfreeze(steps):
    """A classifier, trained with its base frozen; then `steps` in their order."""
    backbone = backbones.build_cnn_backbone((8, 8, 1), filters=(4, 8))
    backbone.trainable = False
    classifier = backbones.attach_head(backbone, num_classes=3)

    def compile_again():
        classifier.compile("adam", "sparse_categorical_crossentropy")

    compile_again()
    classifier.fit(np.zeros((3, 8, 8, 1)), np.arange(3), verbose=0)
    actions = {"unfreeze": lambda: setattr(backbone, "trainable", True)}
    actions["one layer"] = lambda: setattr(
        backbone.get_layer("conv_2"), "trainable", True
    )
    actions |= {"rest": lambda: freeze_batch_norm(backbone), "compile": compile_again}
    for step in steps.split(", "):
        actions.get(step, int)()
    return classifier


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ("nothing", "still frozen: conv_1, conv_2."),
        ("unfreeze, rest", "did not: `fit` goes on"),
        ("compile, unfreeze, rest", "Right."),  # nothing is traced before `fit`
        ("unfreeze, compile", "statistics of batch_norm_1, batch_norm_2 moved"),
        ("rest, unfreeze, compile", "statistics of batch_norm_1, batch_norm_2 moved"),
        ("unfreeze, rest, compile", "Right."),
    ],
)
def test_unfrozen_base_names_the_mistake(steps, sentence):
    assert sentence in exercises.check_unfrozen_base(unfreeze(steps))


def test_unfrozen_base_wants_the_classifier():
    assert "Received: NoneType" in exercises.check_unfrozen_base(None)


def renumber(labels, predictions, *, swap=False):
    counts = confusion_matrix(
        *((predictions, labels) if swap else (labels, predictions))
    )
    return counts.argmax(axis=0)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (renumber, "Right."),
        (lambda y, p: renumber(y, p, swap=True), "the other way round"),
        (lambda y, p: np.unique(p), "nothing is renumbered"),
        (lambda y, p: confusion_matrix(y, p), "this is the matrix"),
        (lambda y, p: renumber(y, p)[p], "these are the new predictions"),
        (
            lambda y, p: optimize.linear_sum_assignment(-confusion_matrix(p, y))[1],
            "Right.",
        ),
    ],
)
def test_renumbering_names_the_mistake(wrong, sentence):
    assert sentence in exercises.check_renumbering(wrong)
