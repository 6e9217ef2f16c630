"""Checks for the exercises of the chapters on the algorithm."""

import numpy as np

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


def _join(parts):
    """The numbers of several arrays in one row; what is no tuple passes as it is."""
    if not isinstance(parts, tuple | list):
        return parts
    return np.concatenate([np.ravel(part) for part in parts])


@answers("That is the whole of training a linear probe, step after step.")
def check_head_step(answer):
    """Check the exercise of `algorithm/four_steps`: one step of the head alone.

    Args:
        answer: A function of features `(n, d)`, integer labels `(n,)`, the head's
            kernel `(d, num_classes)` and bias `(num_classes,)`, and the learning
            rate. It returns the new kernel and the new bias.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(5, 2)), np.array([0, 2, 1, 2, 2])
    kernel, bias, rate = rng.normal(size=(2, 3)), rng.normal(size=3), 0.3
    logits = features @ kernel + bias
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    start, ones = _join((kernel, bias)), np.ones(5)
    step, linear = (
        rate * _join((features.T @ error, ones @ error)) / len(y)
        for error in (p - np.eye(3)[y], logits - np.eye(3)[y])
    )
    right = start - step
    mistakes = [
        (start - 5 * step, "this is the sum over the rows; the loss is their mean."),
        (start + step, "this goes uphill: the loss grows."),
        (start - linear, "the head ends with a softmax."),
        (np.r_[right[:6], bias], "the bias belongs to the head, and moves as well."),
    ]
    copies = kernel.copy(), bias.copy()
    received = _join(answer(features, y, *copies, rate))
    expect(received, right, mistakes=mistakes)


@answers("A network knows nothing of its pictures before its loss is below this one.")
def check_best_constant(answer):
    """Check the exercise of `algorithm/four_steps`: the loss that knows no picture.

    Args:
        answer: A function of integer labels, (n,). It returns a loss in nats.
    """
    expect_function(answer)
    y = np.array([2, 0, 0, 1, 0, 2, 0, 1, 0, 0, 0, 1])
    share = np.array([7, 3, 2]) / 12
    right = -(share * np.log(share)).sum()
    mistakes = [
        (np.log(3), "a constant that gives each class a third can be improved."),
        (right / np.log(2), "the loss is in nats: take the natural logarithm."),
        (
            -np.log(share).mean(),
            "every row counts once, so frequent classes count more.",
        ),
        (-np.log(share.max()), "rows of the other classes cost something, too."),
    ]
    expect(answer(y), right, mistakes=mistakes)


@answers("The gradient's newest news counts at once: that is the look ahead.")
def check_nesterov_step(answer):
    """Check the exercise of `algorithm/optimizers`: Nesterov's momentum.

    Args:
        answer: A function of parameters, gradient and velocity, (d,), of the number
            of the step, the learning rate and the momentum. It returns the new
            parameters and the new velocity.
    """
    expect_function(answer)
    theta, gradient = np.array([1.0, -2.0]), np.array([0.5, 3.0])
    velocity, rate, momentum = np.array([0.3, -0.4]), 0.1, 0.8
    new = momentum * velocity - rate * gradient
    ahead = momentum * new - rate * gradient
    mistakes = [
        ((theta + new, new), "this is momentum (2), without the look ahead."),
        ((theta + momentum * new, new), "the gradient itself is missing in the move."),
        (
            (theta + momentum * velocity - rate * gradient, velocity),
            "the new velocity is to be used, and to be remembered.",
        ),
        (
            (theta + ahead, ahead),
            "what is remembered is the velocity, not the move that was made.",
        ),
    ]
    copies = theta.copy(), gradient.copy(), velocity.copy()
    expect(
        _join(answer(*copies, 1, rate, momentum)),
        _join((theta + ahead, new)),
        mistakes=[(_join(wrong), sentence) for wrong, sentence in mistakes],
    )


@answers("The steepest direction sets the limit, the flattest one pays for it.")
def check_learning_rates_of_a_valley(answer):
    """Check the exercise of `algorithm/optimizers`: how large a rate may be.

    Args:
        answer: A function of a symmetric, positive definite matrix (d, d), the second
            derivatives of the loss. It returns the best rate and the limit.
    """
    expect_function(answer)
    turn = np.array([[2, -2, 1], [1, 2, 2], [2, 1, -2]]) / 3  # columns are orthonormal
    hessian = turn @ np.diag([1.0, 4.0, 10.0]) @ turn.T
    diagonal = hessian.diagonal()
    right = 2 / 11, 2 / 10
    mistakes = [
        (right[::-1], "the best rate comes first, then the limit."),
        (
            (2 / (diagonal.min() + diagonal.max()), 2 / diagonal.max()),
            "the steepest direction need not be along an axis.",
        ),
        (
            (1 / 10, 2 / 10),
            "this rate is best for the steepest direction; the flattest one is slower "
            "than it need be.",
        ),
        ((2 / 11, 1 / 10), "above this rate the steps swing, but they still shrink."),
    ]
    expect(answer(hessian), right, mistakes=mistakes)


@answers("The same weights as the formula: for a network, only the loop is left.")
def check_descent_with_a_prior(answer):
    """Check the exercise of `algorithm/theory`: gradient descent with L2-SP.

    Args:
        answer: A function of the source's weights `(d,)`, the inputs `(n, d)`, the
            labels `(n,)`, the strength of the prior, the learning rate and the number
            of steps. It returns the weights after the last step.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    X, y, w_source = rng.normal(size=(6, 3)), rng.normal(size=6), rng.normal(size=3) + 2
    alpha, kept = 2.0, w_source.copy()
    received = answer(w_source, X, y, alpha, 0.02, 3000)
    if not np.array_equal(kept, w_source):
        raise NotYet(
            "`w_source` has changed. Two names for one array: the prior walks along. "
            "Begin with a copy."
        )
    centres, strengths = [kept, 0 * kept, kept, kept], [alpha, alpha, 0, alpha / 2]
    right, zero, alone, half = (
        w + np.linalg.solve(X.T @ X + strength * np.eye(3), X.T @ (y - X @ w))
        for w, strength in zip(centres, strengths, strict=True)
    )
    mistakes = [
        (zero, "this shrinks towards zero, as from scratch."),
        (alone, "this is least squares: the prior has no say."),
        (half, "a square's factor 2 belongs to both parts, or none."),
        (kept, "the weights have not moved."),
    ]
    expect(received, right, mistakes=mistakes, tolerance=1e-4)


@answers("Neither the distance nor the source error could have told the joint error.")
def check_bound_terms(answer):
    """Check the exercise of `algorithm/theory`: two terms of the bound.

    Args:
        answer: A function of what each of k classifiers answers at the source,
            `(k, n)`, the labels there, `(n,)`, and the same at the target, `(k, m)` and
            `(m,)`, all 0 or 1. It returns half the divergence, and the joint error.
    """
    expect_function(answer)
    here = np.array([[1, 1, 1, 1, 1], [0, 1, 1, 1, 1], [0, 1, 0, 1, 0]])
    there = [0, 1, 0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0, 1]
    there = np.array(there)
    y_here, y_there = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0, 0, 0, 1])
    errors = (here != y_here).mean(axis=1), (there != y_there).mean(axis=1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    differ = [[(k[i] != k[j]).mean() for i, j in pairs] for k in (here, there)]
    gaps = np.subtract(*differ)
    half = np.abs(gaps).max()
    single = np.abs(here.mean(axis=1) - there.mean(axis=1)).max()
    joint, best = min(sum(errors)), errors[0].argmin()
    mistakes = [
        ((max(gaps), joint), "a difference may have either sign: take its size."),
        ((2 * half, joint), "that is the divergence; the bound takes half of it."),
        (
            (single, joint),
            "compare two classifiers: how often do they differ here, how often there?",
        ),
        ((half, errors[0].min() + errors[1].min()), "one classifier must serve both."),
        (
            (half, errors[0][best] + errors[1][best]),
            "the best classifier at the source need not have the smallest sum.",
        ),
    ]
    expect(answer(here, y_here, there, y_there), (half, joint), mistakes=mistakes)
    # Both terms are the same if source and target change places.
    expect(answer(there, y_there, here, y_here), (half, joint), mistakes=mistakes)
