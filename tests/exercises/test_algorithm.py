"""Each check tells the mistakes that readers make, and what to do about them."""

import itertools

import numpy as np
import pytest

from transfer_tutorial import exercises


def softmax(logits):
    p = np.exp(logits)
    return p / p.sum(axis=1, keepdims=True)


def head_step(
    features, y, kernel, bias, rate, *, mean=True, sign=1, probs=True, b=True
):
    out = features @ kernel + bias
    error = (softmax(out) if probs else out) - np.eye(3)[y]
    rate = sign * rate / (len(y) if mean else 1)
    kernel = kernel - rate * features.T @ error
    return kernel, bias - rate * error.sum(axis=0) if b else bias


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"mean": False}, "the loss is their mean"),
        ({"sign": -1}, "uphill"),
        ({"probs": False}, "ends with a softmax"),
        ({"b": False}, "the bias belongs to the head"),
    ],
)
def test_head_step_names_the_mistake(wrong, sentence):
    said = exercises.check_head_step(lambda *args: head_step(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_head_step_may_work_in_place():
    def step(features, y, kernel, bias, rate):
        kernel[:], bias[:] = head_step(features, y, kernel, bias, rate)
        return [kernel, bias]

    assert exercises.check_head_step(step).startswith("Right.")


def find_shares(y):
    return np.unique(y, return_counts=True)[1] / len(y)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda y: np.log(len(set(y))), "each class a third"),
        (lambda y: -(find_shares(y) @ np.log2(find_shares(y))), "natural logarithm"),
        (lambda y: -np.mean(np.log(find_shares(y))), "frequent classes count more"),
        (lambda y: -np.log(max(find_shares(y))), "rows of the other classes"),
    ],
)
def test_best_constant_names_the_mistake(wrong, sentence):
    said = exercises.check_best_constant(wrong)
    assert said.startswith("Not yet:") and sentence in said


def plain_momentum(theta, gradient, velocity, t, rate, momentum):
    velocity = momentum * velocity - rate * gradient
    return theta + velocity, velocity


def without_gradient(theta, gradient, velocity, t, rate, momentum):
    velocity = momentum * velocity - rate * gradient
    return theta + momentum * velocity, velocity


def old_velocity(theta, gradient, velocity, t, rate, momentum):
    return theta + momentum * velocity - rate * gradient, velocity


def move_remembered(theta, gradient, velocity, t, rate, momentum):
    velocity = momentum * velocity - rate * gradient
    move = momentum * velocity - rate * gradient
    return theta + move, move


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (plain_momentum, "without the look ahead"),
        (without_gradient, "the gradient itself is missing"),
        (old_velocity, "the new velocity is to be used"),
        (move_remembered, "not the move"),
    ],
)
def test_nesterov_step_names_the_mistake(wrong, sentence):
    said = exercises.check_nesterov_step(wrong)
    assert said.startswith("Not yet:") and sentence in said


def find_curvatures(hessian):
    values = np.linalg.eigvalsh(hessian)
    return values.min(), values.max()


def read_diagonal(hessian):
    low, high = min(np.diag(hessian)), max(np.diag(hessian))
    return 2 / (low + high), 2 / high


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda h: (2 / find_curvatures(h)[1], 2 / sum(find_curvatures(h))), "first"),
        (read_diagonal, "need not be along an axis"),
        (lambda h: 1 / find_curvatures(h)[1] * np.array([1, 2]), "the flattest one"),
        (lambda h: (2 / sum(find_curvatures(h)), 1 / find_curvatures(h)[1]), "swing"),
    ],
)
def test_learning_rates_of_a_valley_names_the_mistake(wrong, sentence):
    said = exercises.check_learning_rates_of_a_valley(wrong)
    assert said.startswith("Not yet:") and sentence in said


def descend(
    w_source, X, y, alpha, rate, num_steps, *, centre=1, factors=(1, 1), copy=1
):
    w = w_source.copy() if copy else w_source
    for _ in range(num_steps):
        slope = factors[0] * X.T @ (X @ w - y)
        w -= rate * (slope + factors[1] * alpha * (w - centre * w_source))
    return w


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"centre": 0}, "towards zero"),
        ({"factors": (1, 0)}, "least squares"),
        ({"factors": (2, 1)}, "factor 2"),
        ({"factors": (0, 0)}, "have not moved"),
        ({"copy": 0}, "Two names for one array"),
    ],
)
def test_descent_with_a_prior_names_the_mistake(wrong, sentence):
    said = exercises.check_descent_with_a_prior(lambda *args: descend(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_descent_with_a_prior_leaves_the_factor_two_to_the_reader():
    said = exercises.check_descent_with_a_prior(
        lambda *args: descend(*args, factors=(2, 2))
    )
    assert said.startswith("Right.")


def bound_terms(here, y_here, there, y_there, *, gaps="pairs", joint="one"):
    pairs = list(itertools.product(range(len(here)), repeat=2))
    gap = [
        np.mean(here[i] != here[j]) - np.mean(there[i] != there[j]) for i, j in pairs
    ]
    single = np.abs(here.mean(axis=1) - there.mean(axis=1))
    upper = [gap for (i, j), gap in zip(pairs, gap, strict=True) if i < j]
    half = {
        "pairs": np.max(np.abs(gap)),
        "signed": max(upper),
        "turned": -min(upper),
        "whole": 2 * np.max(np.abs(gap)),
        "single": single.max(),
    }
    source = np.mean(here != y_here, axis=1)
    target = np.mean(there != y_there, axis=1)
    chosen = source.argmin()
    sums = {
        "one": min(source + target),
        "two": min(source) + min(target),
        "source": source[chosen] + target[chosen],
    }
    return half[gaps], sums[joint]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"gaps": "signed"}, "either sign"),
        ({"gaps": "turned"}, "either sign"),
        ({"gaps": "whole"}, "the bound takes half"),
        ({"gaps": "single"}, "compare two classifiers"),
        ({"joint": "two"}, "one classifier must serve both"),
        ({"joint": "source"}, "need not have the smallest sum"),
    ],
)
def test_bound_terms_names_the_mistake(wrong, sentence):
    said = exercises.check_bound_terms(lambda *args: bound_terms(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said
