"""Checks for the exercises of the chapters on sources, views and sentences."""

import numpy as np
from scipy import special

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


def _mean_log(parts):
    """The mean over rows of the logarithm of their sums."""
    return np.mean(np.log(parts.sum(axis=1)))


@answers("The old head was never told the new classes, and is of use all the same.")
def check_leep(answer):
    """Check the exercise of `challenges/choosing_a_source`: LEEP.

    Args:
        answer: A function of the probabilities that the source model gives its old
            classes (n, old), rows of sum 1, and of the new labels (n,), integers. It
            returns the score, a number of at most 0.
    """
    expect_function(answer)
    first, second = [0.7, 0.1, 0.2, 0.5, 0.3, 0.1], [0.2, 0.6, 0.1, 0.3, 0.5, 0.2]
    theta = np.transpose([first, second, 1 - np.add(first, second)])
    y = np.array([0, 1, 1, 0, 0, 1])
    joint = np.array([theta[y == c].sum(axis=0) for c in (0, 1)]) / 6  # P(y, z)
    given = joint / joint.sum(axis=0)  # P(y | z)
    hard = np.eye(3)[theta.argmax(axis=1)]
    counted = np.array([hard[y == c].sum(axis=0) for c in (0, 1)])
    wrong_way = joint / joint.sum(axis=1, keepdims=True)  # P(z | y)
    inside = np.mean((np.log(given[y]) * theta).sum(axis=1))
    mistakes = [
        (
            _mean_log(joint[y] * theta),
            "P(y, z) is joint; divide it by what z has over all y.",
        ),
        (_mean_log(wrong_way[y] * theta), "this is P(z | y); you need P(y | z)."),
        (inside, "take the logarithm of the sum over z, not the sum of logarithms."),
        (
            _mean_log(given[y] * theta) * 6,
            "take the mean over the rows, not their sum.",
        ),
        (np.mean((given[y] * theta).sum(axis=1)), "the logarithm is missing."),
        (
            _mean_log((counted / counted.sum(axis=0))[y] * hard),
            "here each row votes for one old class; LEEP keeps all probabilities.",
        ),
    ]
    expect(answer(theta, y), _mean_log(given[y] * theta), mistakes=mistakes)


def _measure_link(features, labels):
    """Some score: how much the features have to do with three classes."""
    return float(np.linalg.norm(features.T @ np.eye(3)[labels]) ** 2)


@answers("What is left is the part of the score that the labels have earned.")
def check_score_beyond_chance(answer):
    """Check the exercise of `challenges/choosing_a_source`: what chance would score.

    Args:
        answer: A function of a score (a function of features and labels), of features
            (n, d), labels (n,) and orders (k, n), each row of which is a permutation of
            0...n - 1. It returns the score less its mean for shuffled labels.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(7, 2)), np.array([0, 1, 2, 0, 1, 2, 2])
    orders = np.array([rng.permutation(7) for _ in range(3)])
    chance = [_measure_link(z, y[order]) for order in orders]
    right = _measure_link(z, y) - np.mean(chance)
    mistakes = [
        (np.mean(chance), "this is chance itself; what does the score have beyond it?"),
        (-right, "the sign is turned: more than chance must be above 0."),
        (0.0, "rows and labels were shuffled together, and still belong together."),
        (
            _measure_link(z, y) - np.max(chance),
            "take the mean of all orders, not the largest.",
        ),
        (_measure_link(z, y) - chance[0], "this uses the first order only."),
    ]
    expect(answer(_measure_link, z, y, orders), right, mistakes=mistakes)


def _cross_entropy(similarity, right):
    """The mean over rows, if each has to find the column `right`."""
    rows = np.arange(len(similarity))
    return -special.log_softmax(similarity, axis=1)[rows, right].mean()


def _leave_out(similarity, columns):
    """The same, but for one column of each row, which can no longer be chosen."""
    return np.where(np.eye(similarity.shape[1])[columns], -np.inf, similarity)


@answers("Whoever has a low loss can tell every partner from all the others.")
def check_nt_xent(answer):
    """Check the exercise of `challenges/self_supervised`: the loss of SimCLR.

    Args:
        answer: A function of two arrays of projections (n, d), row i of both from views
            of picture i, and of the temperature. It returns the mean loss of the 2n
            views, a number.
    """
    expect_function(answer)
    a, b = np.random.default_rng(0).normal(size=(2, 4, 3))
    z, tau = np.concatenate([a, b]), 0.5
    itself, partner = np.arange(8), np.roll(np.arange(8), 4)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    cosine = unit @ unit.T
    others = _leave_out(cosine, itself)
    right = _cross_entropy(others / tau, partner)
    apart = special.logsumexp(_leave_out(others, partner) / tau, axis=1)
    across = cosine[:4, 4:] / tau
    one_sided = [_cross_entropy(table, np.arange(4)) for table in (across, across.T)]
    mistakes = [
        (
            _cross_entropy(_leave_out(z @ z.T / tau, itself), partner),
            "give every projection length 1 first: cosine similarities.",
        ),
        (_cross_entropy(cosine / tau, partner), "leave k = i out of the sum."),
        (_cross_entropy(others * tau, partner), "divide by the temperature."),
        (
            np.mean(apart - cosine[itself, partner] / tau),
            "the partner belongs into the sum below the line as well.",
        ),
        (np.mean(one_sided), "the views of the same side are wrong answers, too."),
        (one_sided[0], "only n of the 2n views were asked, against n answers."),
    ]
    expect(answer(a, b, tau), right, mistakes=mistakes)


@answers("A loss that stays there says that the encoder has collapsed.")
def check_collapsed_loss(answer):
    """Check the exercise of `challenges/self_supervised`: a collapsed encoder.

    Args:
        answer: The loss of a batch of 128 pictures if all projections are equal, in
            nats, such as `np.log(3)`.
    """
    mistakes = [
        (np.log(256), "a view is not among its own answers: one term less."),
        (np.log(254), "the partner is in the sum below the line as well."),
        (np.log(128), "there are two views of each picture in the batch."),
        (np.log(127), "there are two views of each picture in the batch."),
        (0.0, "all are alike, so the partner is as likely as any other, not sure."),
        (np.log2(255), "the logarithm is the natural one."),
    ]
    expect(answer, np.log(255), mistakes=mistakes)


@answers("An answer that is not allowed cannot win: the list is half of the result.")
def check_zero_shot(answer):
    """Check the exercise of `challenges/cross_modal`: the nearest allowed sentence.

    Args:
        answer: A function of pictures in the space of the sentences (n, d), of the
            vectors of all classes (c, d), and of a list of the allowed classes, numbers
            in 0...c - 1. It returns the number of the class of each picture, (n,).
    """
    expect_function(answer)
    rng = np.random.default_rng(2)
    landed = rng.normal(size=(12, 3)) + 0.5
    vectors = rng.normal(size=(5, 3)) * np.array([[1], [3], [0.3], [2], [0.5]])
    allowed = [4, 1, 2]
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    place = (landed @ unit[allowed].T).argmax(axis=1)
    right = np.array(allowed)[place]
    product = np.array(allowed)[(landed @ vectors[allowed].T).argmax(axis=1)]
    gaps = np.linalg.norm(landed[:, np.newaxis] - vectors[allowed], axis=2)
    mistakes = [
        (place, "these are places in the list; which classes stand there?"),
        (product, "a long vector wins by its length; compare angles."),
        (np.array(allowed)[gaps.argmin(axis=1)], "this is distance; compare angles."),
        ((landed @ unit.T).argmax(axis=1), "not all of these classes are allowed."),
    ]
    expect(answer(landed, vectors, allowed), right, mistakes=mistakes)


def _score_groups(similarity, labels, hidden):
    correct = similarity.argmax(axis=1) == labels
    return correct[hidden].mean(), correct[~hidden].mean()


@answers("What is gained on the hidden classes is paid for by the known: report both.")
def check_seen_penalty(answer):
    """Check the exercise of `challenges/cross_modal`: a handicap for the known.

    Args:
        answer: A function of similarities (n, c), labels (n,), a list of the classes
            with training pictures, and a penalty, to be taken from the similarities of
            these. It returns two accuracies: on pictures of the hidden classes, and on
            those of the classes with training pictures.
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    seen, labels = [0, 2, 3], rng.permutation(np.arange(40) % 5)
    similarity = rng.normal(size=(40, 5)) + 1.5 * np.eye(5)[labels]
    known = np.isin(np.arange(5), seen)
    similarity += 0.3 * known
    before, hidden = similarity.copy(), ~np.isin(labels, seen)
    right, without, against = (
        _score_groups(before - penalty * known, labels, hidden)
        for penalty in (0.7, 0.0, -0.7)
    )
    mistakes = [
        (without, "the penalty has changed nothing."),
        (against, "the penalty has helped the known classes instead."),
        (right[::-1], "these are the right numbers in the other order."),
        (
            np.array([hidden.mean(), (~hidden).mean()]) * right,
            "each accuracy is a share of the pictures of its own classes.",
        ),
    ]
    expect(answer(similarity, labels, seen, 0.7), right, mistakes=mistakes)
    if not np.array_equal(similarity, before):
        raise NotYet("right, but the caller's similarities were changed: take a copy.")
