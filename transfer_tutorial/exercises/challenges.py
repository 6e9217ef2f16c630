"""Checks for the exercises on smaller networks, on forgetting, and on failures."""

import numpy as np
from scipy import special

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


@answers("Places first, then channels: so EfficientNet saves multiplications.")
def check_separable_work(answer):
    """Check the exercise of `challenges/model_complexity`: multiply-adds.

    Args:
        answer: A function of the side of the output in pixels, the side of the filters,
            the channels that come in and those that go out. It returns the
            multiply-adds of a depthwise convolution followed by one of 1 x 1.
    """
    expect_function(answer)
    side, kernel, inputs, outputs = 14, 3, 8, 20
    depthwise, mixing = kernel**2 * inputs, inputs * outputs
    mistakes = [
        (depthwise + mixing, "these are the weights; each is used at every position."),
        (side**2 * depthwise * outputs, "this is one ordinary convolution."),
        (side**2 * depthwise, "the convolution of 1 x 1 is missing."),
        (side**2 * mixing, "the depthwise convolution is missing."),
        (side**2 * depthwise * mixing, "one comes after the other: add, not multiply."),
        (side * (depthwise + mixing), "the output has side times side positions."),
    ]
    right = side**2 * (depthwise + mixing)
    expect(answer(side, kernel, inputs, outputs), right, mistakes=mistakes)


def _round(kernel, largest, rounding=np.round):
    return rounding(kernel / largest * 127) / 127 * largest


@answers("Close to float32, for a quarter of the bytes.")
def check_rounded_kernel(answer):
    """Check the exercise of `challenges/model_complexity`: a kernel in 8 bits.

    Args:
        answer: A function of a kernel (inputs, outputs). It returns the kernel as it is
            after 8 bits, (inputs, outputs): each column in steps of a size of its own,
            with the largest magnitude of the column at 127 steps.
    """
    expect_function(answer)
    kernel = np.random.default_rng(0).normal(size=(6, 3)) * [0.1, 1, 10]
    magnitude = np.abs(kernel)
    own = magnitude.max(axis=0)
    mistakes = [
        (
            _round(kernel, magnitude.max()),
            "one scale for all: the small columns are lost.",
        ),
        (
            _round(kernel, magnitude.max(axis=1, keepdims=True)),
            "each row has its scale here; a column is what makes one output.",
        ),
        (
            _round(kernel, own, np.trunc),
            "take the nearest whole number; this cuts off.",
        ),
        (
            _round(kernel, own, np.floor),
            "take the nearest whole number; this goes down.",
        ),
        (np.round(kernel / own * 127), "bring the whole numbers back to scale."),
        (
            _round(kernel, kernel.max(axis=0)),
            "the largest magnitude may be that of a negative weight.",
        ),
        (kernel, "nothing has been rounded."),
    ]
    expect(answer(kernel), _round(kernel, own), mistakes=mistakes, tolerance=1e-6)


def _diverge(p, q):
    """The mean over rows of the Kullback-Leibler divergence; `p` is the target."""
    return special.rel_entr(p, q).sum(axis=1).mean()


@answers("The student is told what else the picture looks like, and needs no label.")
def check_distillation(answer):
    """Check the exercise of `challenges/model_complexity`: the loss of distillation.

    Args:
        answer: A function of the logits of the teacher and of the student, both (n, c),
            and of the temperature. It returns the mean over the rows of the divergence
            of the softened answers, times the square of the temperature.
    """
    expect_function(answer)
    teacher, student = np.random.default_rng(0).normal(size=(2, 4, 3)) * 2
    t = 3.0
    p, q = (special.softmax(z / t, axis=1) for z in (teacher, student))
    right = t**2 * _diverge(p, q)
    hot = (special.softmax(z * t, axis=1) for z in (teacher, student))
    mistakes = [
        (right / t**2, "the factor in front is missing; the gradients need it."),
        (right / t, "the factor is the square of the temperature."),
        (t**2 * _diverge(q, p), "the wrong way round: the teacher is the target."),
        (
            t**2 * _diverge(p, special.softmax(student, axis=1)),
            "only the teacher has been softened.",
        ),
        (t**2 * _diverge(*hot), "this sharpens: divide the logits by the temperature."),
        (
            -(t**2) * np.mean((p * np.log(q)).sum(axis=1)),
            "this is the cross-entropy, with the same gradient; the divergence is 0 if "
            "both agree.",
        ),
        (right * len(teacher), "take the mean over the rows, not their sum."),
    ]
    expect(answer(teacher, student, t), right, mistakes=mistakes)


@answers("The old head keeps its word, and no picture of the source is needed.")
def check_old_answers_loss(answer):
    """Check the exercise of `challenges/forgetting_and_calibration`: no forgetting.

    Args:
        answer: A function of the new head's probabilities (n, c), the labels (n,), the
            old head's probabilities before training and now, both (n, o), and a weight.
            It returns the mean loss of learning without forgetting.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    new, labels = rng.dirichlet([1, 1, 1, 1], size=5), np.array([2, 0, 3, 1, 2])
    before, now = rng.dirichlet([1, 2, 3], size=(2, 5))
    weight = 2.0
    learn = -np.log(new[np.arange(5), labels]).mean()
    hard = -np.log(now[np.arange(5), before.argmax(axis=1)]).mean()
    mistakes = [
        (learn, "this learns the new labels only; nothing holds the old answers."),
        (weight * _diverge(before, now), "the loss of the new head is missing."),
        (learn + _diverge(before, now), "the weight is missing."),
        (
            learn + weight * _diverge(now, before),
            "the wrong way round: the answers before are the target.",
        ),
        (learn + weight * hard, "keep the whole old answer, not its top class."),
        (
            learn - weight * (before * np.log(now)).sum(axis=1).mean(),
            "this is the cross-entropy, with the same gradient; the divergence is 0 as "
            "long as nothing has been forgotten.",
        ),
    ]
    right = learn + weight * _diverge(before, now)
    expect(answer(new, labels, before, now, weight), right, mistakes=mistakes)


def _measure_likelihood(logits, labels):
    return special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels].mean()


@answers("One number, found on held-out rows, and no decision changes.")
def check_fitted_temperature(answer):
    """Check the exercise of `challenges/forgetting_and_calibration`: one number.

    Args:
        answer: A function of validation logits (n, c), labels (n,) and a list of
            temperatures to try. It returns the one with the most likely labels.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(300, 4)) * 2
    chances = special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (chances < rng.random((300, 1))).sum(axis=1)  # calibrated at 1
    tried = [0.2, 0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0, 5.0]
    views = logits * 4.0, logits * 0.5  # far too sure, then not sure enough
    table = [[_measure_likelihood(z / t, labels) for t in tried] for z in views]
    best, worst = (np.take(tried, find(table, 1)) for find in (np.argmax, np.argmin))
    mistakes = [
        (1 / best, "this is one over it: logits are *divided* by T."),
        (worst, "this makes the labels least likely; mind the sign."),
        ([tried[0]] * 2, "this is for the surest answers, or for decisions only."),
        ([tried[-1]] * 2, "this is for the least sure answers, right or wrong."),
    ]
    found = [answer(z, labels, tried) for z in views]
    expect(None if None in found else found, best, mistakes=mistakes)


@answers("Unfreeze, put BatchNorm to rest, compile: in this order all of it holds.")
def check_unfrozen_base(answer):
    """Check the exercise of `faq/poor_performance`: what is allowed to move.

    Args:
        answer: The classifier of the start, compiled; it is trained for one more step.
    """
    if not hasattr(answer, "fit"):
        raise NotYet(f"give the classifier. Received: {type(answer).__name__}")
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 255, size=(8, *answer.input_shape[1:])), np.arange(8) % 3
    before = answer.get_weights()
    answer.fit(x, y, epochs=1, verbose=0)
    moved, still = set(), set()
    for weight, old in zip(answer.weights, before, strict=True):
        group = still if np.array_equal(weight.numpy(), old) else moved
        group.add((weight.path.split("/")[-2], weight.name))
    drifted = sorted({layer for layer, name in moved if name.startswith("moving")})
    asleep = sorted({layer for layer, name in still if name == "kernel"})
    if drifted:
        raise NotYet(
            f"the statistics of {', '.join(drifted)} moved. Unfreezing the base wakes "
            "its BatchNorm as well: put it to rest afterwards."
        )
    trainable = {v.path.split("/")[-2] for v in answer.trainable_variables}
    if frozen := [layer for layer in asleep if layer not in trainable]:
        raise NotYet(f"still frozen: {', '.join(frozen)}. All of the base is to learn.")
    if asleep:
        raise NotYet(
            f"{', '.join(asleep)} may learn now, and did not: `fit` goes on with the "
            "weights that it knew at the last `compile`."
        )


@answers("The model was right all along; somebody had counted in another order.")
def check_renumbering(answer):
    """Check the exercise of `faq/poor_performance`: labels in another order.

    Args:
        answer: A function of the labels and the predictions, both (n,), classes
            0...c - 1. It returns an array `new` (c,), such that `new[predictions]`
            agrees with the labels as well as possible.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    right = np.array([2, 0, 3, 1])  # its own inverse is another order
    predictions = rng.permutation(np.arange(80) % 4)
    labels = right[predictions]
    labels[::5] = rng.integers(4, size=16)
    counts = np.bincount(labels * 4 + predictions, minlength=16).reshape(4, 4)
    mistakes = [
        (np.argsort(right), "this turns labels into predictions; the other way round."),
        (np.arange(4), "nothing is renumbered: look for the line in the matrix."),
        (counts, "this is the matrix; where is each prediction's largest count?"),
        (right[predictions], "these are the new predictions; give the order, (c,)."),
    ]
    expect(answer(labels, predictions), right, mistakes=mistakes)
