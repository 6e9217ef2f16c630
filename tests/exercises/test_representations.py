"""Each check tells the mistakes that readers make, and what to do about them."""

import numpy as np
import pytest
from scipy import special

from transfer_tutorial import cross_modal, exercises, pretraining, transferability


def leep(theta, y, *, table="given", hard=False, log="outside"):
    theta = np.eye(theta.shape[1])[theta.argmax(axis=1)] if hard else theta
    joint = np.eye(y.max() + 1)[y].T @ theta / len(y)
    divisors = {"given": joint.sum(axis=0), "joint": 1}
    divisors["wrong way"] = joint.sum(axis=1, keepdims=True)
    each = (joint / divisors[table])[y]
    if log == "inside":
        return np.mean((np.log(each) * theta).sum(axis=1))
    likelihood = (each * theta).sum(axis=1)
    return likelihood.mean() if log == "none" else np.log(likelihood).mean()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"table": "joint"}, "P(y, z) is joint"),
        ({"table": "wrong way"}, "this is P(z | y)"),
        ({"hard": True}, "votes for one old class"),
        ({"log": "inside"}, "not the sum of logarithms"),
        ({"log": "none"}, "logarithm is missing"),
    ],
)
def test_leep_names_the_mistake(wrong, sentence):
    said = exercises.check_leep(lambda *args: leep(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_leep_is_a_mean_and_agrees_with_the_package():
    said = exercises.check_leep(lambda theta, y: len(y) * leep(theta, y))
    assert "not their sum" in said
    assert exercises.check_leep(transferability.leep).startswith("Right.")


def beyond_chance(score, z, y, orders, *, both=False, pool=np.mean):
    return score(z, y) - pool([score(z[o] if both else z, y[o]) for o in orders])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda s, z, y, o: np.mean([s(z, y[p]) for p in o]), "chance itself"),
        (lambda *args: -beyond_chance(*args), "sign is turned"),
        (lambda *args: beyond_chance(*args, both=True), "shuffled together"),
        (lambda *args: beyond_chance(*args, pool=max), "not the largest"),
        (lambda s, z, y, o: beyond_chance(s, z, y, o[:1]), "first order only"),
    ],
)
def test_score_beyond_chance_names_the_mistake(wrong, sentence):
    said = exercises.check_score_beyond_chance(wrong)
    assert said.startswith("Not yet:") and sentence in said


def nt_xent(a, b, tau, *, unit=True, excluded="self", half=False):
    if unit:
        a, b = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (a, b))
    if half:
        scores = a @ b.T / tau
        return np.mean(special.logsumexp(scores, axis=1) - np.diag(scores))
    n, z = len(a), np.concatenate([a, b])
    scores, total = z @ z.T / tau, []
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        left_out = {"self": [i], "nothing": [], "self and partner": [i, partner]}
        others = np.delete(scores[i], left_out[excluded])
        total.append(np.log(np.exp(others).sum()) - scores[i, partner])
    return np.mean(total)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"unit": False}, "length 1"),
        ({"excluded": "nothing"}, "leave k = i out of the sum"),
        ({"excluded": "self and partner"}, "below the line"),
        ({"half": True}, "only n of the 2n"),
    ],
)
def test_nt_xent_names_the_mistake(wrong, sentence):
    said = exercises.check_nt_xent(lambda *args: nt_xent(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_nt_xent_knows_the_loss_of_clip_and_a_temperature_that_multiplies():
    def clip(a, b, tau):
        return (nt_xent(a, b, tau, half=True) + nt_xent(b, a, tau, half=True)) / 2

    assert "of the same side" in exercises.check_nt_xent(clip)
    said = exercises.check_nt_xent(lambda a, b, tau: nt_xent(a, b, 1 / tau))
    assert "divide by the temperature" in said


def test_nt_xent_agrees_with_the_package():
    def loss(a, b, tau):
        pictures = np.tile(np.arange(len(a)), 2)
        return np.mean(pretraining.nt_xent_loss(pictures, np.concatenate([a, b]), tau))

    assert exercises.check_nt_xent(loss).startswith("Right.")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"excluded": "nothing"}, "not among its own answers"),
        ({"excluded": "self and partner"}, "below the line"),
        ({"half": True}, "two views of each picture"),
    ],
)
def test_collapsed_loss_names_the_mistake(options, sentence):
    wrong = nt_xent(np.ones((128, 2)), np.ones((128, 2)), 0.2, **options)
    assert sentence in exercises.check_collapsed_loss(wrong)


@pytest.mark.parametrize(
    ("wrong", "sentence"), [(0, "not sure"), (np.log2(255), "natural one")]
)
def test_collapsed_loss_names_a_wrong_number(wrong, sentence):
    assert sentence in exercises.check_collapsed_loss(wrong)


def test_collapsed_loss_is_that_of_the_loss():
    ones = np.ones((128, 2))
    assert exercises.check_collapsed_loss(nt_xent(ones, ones, 0.2)).startswith("Right.")


def zero_shot(landed, vectors, allowed, *, unit=True, distance=False, places=False):
    if distance:
        near = -np.linalg.norm(landed[:, None] - vectors[allowed], axis=2)
    else:
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True) if unit else 1
        near = landed @ (vectors / lengths)[allowed].T
    places_found = near.argmax(axis=1)
    return places_found if places else np.array(allowed)[places_found]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"unit": False}, "a long vector wins"),
        ({"distance": True}, "this is distance"),
        ({"places": True}, "places in the list"),
    ],
)
def test_zero_shot_names_the_mistake(wrong, sentence):
    said = exercises.check_zero_shot(lambda *args: zero_shot(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_zero_shot_allows_what_is_allowed_and_agrees_with_the_package():
    said = exercises.check_zero_shot(lambda z, v, _: zero_shot(z, v, range(len(v))))
    assert "not all of these classes are allowed" in said

    def classify(landed, vectors, allowed):
        found = cross_modal.classify_zero_shot(landed, vectors[allowed])
        return np.array(allowed)[found.argmax(axis=1)]

    assert exercises.check_zero_shot(classify).startswith("Right.")


def score_with_penalty(similarity, labels, seen, penalty, *, shares=False):
    lowered = similarity.copy()
    lowered[:, seen] -= penalty
    correct, known = lowered.argmax(axis=1) == labels, np.isin(labels, seen)
    if shares:
        return np.mean(correct & ~known), np.mean(correct & known)
    return correct[~known].mean(), correct[known].mean()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda s, y, seen, c: score_with_penalty(s, y, seen, 0), "changed nothing"),
        (lambda s, y, seen, c: score_with_penalty(s, y, seen, -c), "helped the known"),
        (lambda *args: score_with_penalty(*args)[::-1], "in the other order"),
        (lambda *args: score_with_penalty(*args, shares=True), "of its own classes"),
    ],
)
def test_seen_penalty_names_the_mistake(wrong, sentence):
    said = exercises.check_seen_penalty(wrong)
    assert said.startswith("Not yet:") and sentence in said


def test_seen_penalty_wants_the_similarities_back_as_they_were():
    def score(similarity, labels, seen, penalty):
        similarity[:, seen] -= penalty
        return score_with_penalty(similarity, labels, seen, 0)

    assert "take a copy" in exercises.check_seen_penalty(score)
