"""Checks for the exercises of the chapters on texts and speech."""

import numpy as np

from transfer_tutorial.exercises.feedback import (
    NotYet,
    answers,
    expect,
    expect_function,
)


@answers("A gate near 1 carries the state through a word untouched.")
def check_gru_step(answer):
    """Check the exercise of `code/text_gru`: one step of a GRU.

    Args:
        answer: A function of the word vector `x` (d,), the state `h` (u,), and three
            dictionaries with the keys `"z"`, `"r"` and `"h"`: matrices `W` (u, d) and
            `U` (u, u), and vectors `b` (u,). It returns the next state, (u,).
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    x, h = rng.normal(size=3), rng.normal(size=2)
    w = {gate: rng.normal(size=(2, 3)) for gate in "zrh"}
    u = {gate: rng.normal(size=(2, 2)) for gate in "zrh"}
    b = {gate: rng.normal(size=2) for gate in "zrh"}

    z, r = (1 / (1 + np.exp(-(w[g] @ x + u[g] @ h + b[g]))) for g in "zr")
    proposal = np.tanh(w["h"] @ x + r * (u["h"] @ h) + b["h"])
    without_reset = np.tanh(w["h"] @ x + u["h"] @ h + b["h"])
    reset_before = np.tanh(w["h"] @ x + u["h"] @ (r * h) + b["h"])
    mistakes = [
        (proposal, "this is the proposal; mix it with the old state by the gate z."),
        ((1 - z) * h + z * proposal, "the gate is the wrong way round: z keeps h."),
        (z * h + (1 - z) * without_reset, "the proposal ignores the gate r."),
        (
            z * h + (1 - z) * reset_before,
            "r acts on h before U here (Cho et al.); in the chapter, as in Keras, it "
            "acts on U h.",
        ),
    ]
    expect(answer(x, h, w, u, b), z * h + (1 - z) * proposal, mistakes=mistakes)


@answers("Padding gets a weight of exactly 0, and the others still sum to 1.")
def check_attention(answer):
    """Check the exercise of `code/text_transformer`: attention with a mask.

    Args:
        answer: A function of the questions `q` and keys `k` (n, d), the values `v`
            (n, m) and of `is_token` (n,), False where there is padding. It returns what
            each token gets, (n, m).
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(5, width)) for width in (3, 3, 2))
    is_token = np.array([True, True, False, True, False])
    fit = q @ k.T / np.sqrt(3)
    weights = np.exp(fit) * is_token
    right = weights @ v / weights.sum(axis=1, keepdims=True)
    loud = np.exp(q @ k.T) * is_token
    everything = np.exp(fit) / np.exp(fit).sum(axis=1, keepdims=True)
    mistakes = [
        (loud @ v / loud.sum(axis=1, keepdims=True), "divide by the root of d first."),
        (everything @ v, "padding is looked at as well: the mask is missing."),
        (everything * is_token @ v, "the rows sum to 1 no more: mask before the sum."),
        (weights / weights.sum(axis=1) @ v, "divide each row by its own sum."),
    ]
    expect(answer(q, k, v, is_token), right, mistakes=mistakes)


@answers("The more groups, the nearer to 1: a decay belongs to a depth.")
def check_layer_decay(answer):
    """Check the exercise of `code/text_transformer`: the decay of layer rates.

    Args:
        answer: A function of `num_groups`, the number of groups of layers below the
            head, and of `lowest`, the lowest group's share of the head's rate, in
            (0, 1). It returns the decay.
    """
    expect_function(answer)
    mistakes = [
        (0.3 ** (1 / 3), "between 4 groups and the head are 4 steps: the last counts."),
        (1 - 0.7 / 4, "each step takes a share of the rate, not an equal part."),
        (0.3**4, "this is the share of the lowest group if 0.3 were the decay."),
        (0.3 / 4, "a decay is multiplied again and again: which one gives `lowest`?"),
    ]
    expect(answer(4, 0.3), 0.3**0.25, mistakes=mistakes)


def _shorten(x):
    """Vectors (n, d) of length 1."""
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@answers("A similarity is now one product, and no text depends on its neighbours.")
def check_sentence_vector(answer):
    """Check the exercise of `code/text_minilm`: from tokens to one vector.

    Args:
        answer: A function of the vectors of all `tokens` (n, t, d) and of their `ids`
            (n, t), 0 for padding. It returns one vector of length 1 a text, (n, d).
    """
    expect_function(answer)
    tokens = np.random.default_rng(0).normal(size=(2, 4, 3))
    ids = np.array([[101, 7, 102, 0], [101, 102, 0, 0]])
    means = np.stack([tokens[0, :3].mean(axis=0), tokens[1, :2].mean(axis=0)])
    padded = tokens.mean(axis=1)
    both = (tokens * (ids > 0)[:, :, np.newaxis]).mean(axis=1)
    mistakes = [
        (_shorten(padded), "padding has a vector, too: leave it out."),
        (means, "their length is not 1."),
        (both, "divide by the number of tokens, then make the length 1."),
        (_shorten(tokens[:, 0]), "this is [CLS]; the mean is asked for."),
    ]
    expect(answer(tokens, ids), _shorten(means), mistakes=mistakes)


@answers("Hardly a word is unknown, as long as its letters are known.")
def check_word_pieces(answer):
    """Check the exercise of `code/text_minilm`: a word and its pieces.

    Args:
        answer: A function of a `word` and a `vocabulary`, a set of pieces. It returns
            the list of the word's pieces, or `["[UNK]"]`.
    """
    expect_function(answer)
    vocabulary = {"un", "u", "##put", "##p", "##down", "##do", "##able", "##a", "play"}
    vocabulary |= {"##s", "put", "able", "down", "##n", "##bl", "##e", "##t"}
    vocabulary |= {"##u", "##w"}
    pieces = {"play": ["play"], "plays": ["play", "##s"], "putz": ["[UNK]"]}
    pieces |= {"unputdownable": ["un", "##put", "##down", "##able"]}
    for word, right in pieces.items():
        received = answer(word, vocabulary)
        if received is None:
            raise NotYet("there is no answer yet. Received: None")
        received = list(received)
        if received == right:
            continue
        if "[UNK]" in received and len(received) > 1:
            reason = "where a part is unknown, the whole word is."
        elif not any(piece.startswith("##") for piece in received[1:]):
            reason = "a piece that goes on with a word begins with ##."
        elif len(received) > len(right):
            reason = "take the longest piece that fits, from the left."
        else:
            reason = f"it must be {right}."
        raise NotYet(f"{word!r} gives {received}: {reason}")


def _square(gaps, units):
    """Squared lengths (m, c) of vectors (m, c, d), by a matrix of units (d, d)."""
    return np.einsum("mcd,de,mce->mc", gaps, units, gaps)


@answers("What varies within one voice counts little; that is what six voices teach.")
def check_speaker_distances(answer):
    """Check the exercise of `code/speech_gru`: distances in learnt units.

    Args:
        answer: A function of the statistics of the `old` speakers' utterances (n, d)
            and of their `speakers` (n,), of the `means` of the new ones (c, d) and of
            their `others` (m, d). It returns the distances (m, c).
    """
    expect_function(answer)
    rng = np.random.default_rng(0)
    speakers = np.array([0, 0, 0, 2, 2, 2, 2, 5, 5, 5])
    old = rng.normal(size=(10, 2)) @ [[1, 0.8], [0, 0.3]] + speakers[:, np.newaxis]
    means, others = rng.normal(size=(3, 2)), rng.normal(size=(4, 2))
    own = np.array([old[speakers == s].mean(axis=0) for s in speakers])
    within, gaps = np.cov((old - own).T), others[:, np.newaxis] - means
    right = _square(gaps, np.linalg.inv(within))
    total = np.sqrt(_square(gaps, np.linalg.inv(np.cov(old.T))))
    mistakes = [
        (total, "this covariance has the differences between speakers in it as well."),
        (
            np.sqrt(_square(gaps, np.eye(2))),
            "these are plain distances, without units.",
        ),
        (right, "these are squares: take the root."),
        (
            np.sqrt(_square(gaps, within)),
            "much variation must make a distance smaller.",
        ),
    ]
    expect(answer(old, speakers, means, others), np.sqrt(right), mistakes=mistakes)


@answers("What the architecture gives for nothing is no longer counted as transfer.")
def check_source_of_gain(answer):
    """Check the exercise of `code/three_modalities`: what pretraining contributes.

    Args:
        answer: A function of the accuracies of `scratch`, of probes on `untrained` and
            on `pretrained` features, each (seeds,) and for the same seeds. It returns
            `"source"`, `"architecture"` or `"nothing"`.
    """
    expect_function(answer)
    draw = np.array([0.02, -0.03, 0.05, 0.0, -0.04])  # seeds differ more than methods
    small = np.array([0.01, -0.005, 0.0, 0.005, -0.01])
    cases = [
        ((0.5, 0.6, 0.7 + small), "source", "pretraining adds to both."),
        (
            (0.5, 0.7, 0.704 + small),
            "architecture",
            "without any training the features do as well: what does the control say?",
        ),
        (
            (0.5, 0.4, 0.53 + 6 * small),
            "nothing",
            "next to scratch the interval reaches across 0: ask for verdicts.",
        ),
        (
            (0.6, 0.4, 0.55 + small),
            "nothing",
            "pretraining helps the features, and scratch is better all the same.",
        ),
    ]
    for (scratch, untrained, pretrained), right, reason in cases:
        received = answer(draw + scratch, draw + untrained, draw + pretrained)
        if received is None:
            raise NotYet("there is no answer yet. Received: None")
        if received != right:
            raise NotYet(f"{right!r} instead of {received!r} in one case: {reason}")


def _areas(y, p, *, tie=0.5):
    """ROC-AUC of each class against the rest, by counting pairs."""
    return np.array(
        [
            np.mean([(a > b) + tie * (a == b) for a in q[y == c] for b in q[y != c]])
            for c, q in enumerate(p.T)
        ]
    )


@answers("It asks for the order alone, without a threshold, and of each class alike.")
def check_one_against_rest(answer):
    """Check the exercise of `code/three_modalities`: ROC-AUC of several classes.

    Args:
        answer: A function of the labels `y` (n,) and of the probabilities `p` (n, c).
            It returns the mean over the classes of the ROC-AUC against the rest.
    """
    expect_function(answer)
    y = np.array([0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    p = np.array([[6, 3, 1], [3, 4, 3], [5, 1, 4], [2, 2, 6], [7, 2, 1]])
    p = np.concatenate([p, [[1, 7, 2], [4, 5, 1], [6, 3, 1], [2, 3, 5], [3, 6, 1]]])
    areas, answers_only = _areas(y, p), np.eye(3)[p.argmax(axis=1)]
    mistakes = [
        (
            np.mean(_areas(y, p, tie=0)),
            "a pair with equal probabilities counts a half.",
        ),
        (areas @ np.bincount(y) / 10, "each class has the same weight here."),
        (np.mean(_areas(y, answers_only)), "compare probabilities, not the answers."),
        (1 - np.mean(areas), "the pairs are the wrong way round."),
    ]
    expect(answer(y, p / 10), np.mean(areas), mistakes=mistakes)
