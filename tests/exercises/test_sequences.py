"""Each check tells the mistakes that readers make, and what to do about them."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from transfer_tutorial import exercises


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(x, h, w, u, b, *, swap=False, reset="after", mix=True):
    z, r = (sigmoid(w[g] @ x + u[g] @ h + b[g]) for g in "zr")
    inner = {"after": r * (u["h"] @ h), "before": u["h"] @ (r * h), "no": u["h"] @ h}
    proposal = np.tanh(w["h"] @ x + inner[reset] + b["h"])
    keep = 1 - z if swap else z
    return keep * h + (1 - keep) * proposal if mix else proposal


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"swap": True}, "the wrong way round"),
        ({"reset": "no"}, "ignores the gate r"),
        ({"reset": "before"}, "before U"),
        ({"mix": False}, "this is the proposal"),
    ],
)
def test_gru_step_names_the_mistake(wrong, sentence):
    said = exercises.check_gru_step(lambda *args: gru_step(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def attend(q, k, v, is_token, *, root=True, mask="before", keepdims=True):
    fit = q @ k.T / (np.sqrt(q.shape[1]) if root else 1)
    if mask == "before":
        fit = np.where(is_token, fit, -1e9)
    weights = np.exp(fit - fit.max(axis=1, keepdims=True))
    weights = weights / weights.sum(axis=1, keepdims=keepdims)
    return (weights * is_token if mask == "after" else weights) @ v


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"root": False}, "the root of d"),
        ({"mask": "no"}, "the mask is missing"),
        ({"mask": "after"}, "mask before the sum"),
    ],
)
def test_attention_names_the_mistake(wrong, sentence):
    said = exercises.check_attention(lambda *args: attend(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_attention_tells_rows_from_columns():
    def divide_columns(q, k, v, is_token):
        weights = np.exp(q @ k.T / np.sqrt(q.shape[1])) * is_token
        return weights / weights.sum(axis=1) @ v

    assert "each row by its own sum" in exercises.check_attention(divide_columns)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda n, lowest: lowest ** (1 / (n - 1)), "are 4 steps"),
        (lambda n, lowest: 1 - (1 - lowest) / n, "not an equal part"),
        (lambda n, lowest: lowest**n, "if 0.3 were the decay"),
        (lambda n, lowest: lowest / n, "again and again"),
    ],
)
def test_layer_decay_names_the_mistake(wrong, sentence):
    said = exercises.check_layer_decay(wrong)
    assert said.startswith("Not yet:") and sentence in said


def make_vectors(tokens, ids, *, padding=False, count="tokens", unit=True, cls=False):
    is_token = np.ones_like(ids) if padding else (ids > 0).astype(int)
    sums = np.einsum("ijk,ij->ik", tokens, is_token)
    places = is_token.sum(axis=1) if count == "tokens" else [ids.shape[1]] * len(ids)
    x = tokens[:, 0] if cls else sums / np.reshape(places, (-1, 1))
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True)) if unit else x


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"padding": True}, "leave it out"),
        ({"unit": False}, "their length is not 1"),
        ({"unit": False, "count": "places"}, "the number of tokens"),
        ({"cls": True}, "this is [CLS]"),
    ],
)
def test_sentence_vector_names_the_mistake(wrong, sentence):
    said = exercises.check_sentence_vector(lambda *args: make_vectors(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def split_word(word, vocabulary, *, mark="##", longest=True, whole=True):
    pieces, rest = [], word
    while rest:
        ends = range(1, len(rest) + 1)
        for end in reversed(ends) if longest else ends:
            piece = (mark if pieces else "") + rest[:end]
            if piece in vocabulary:
                break
        else:
            return ["[UNK]"] if whole else [*pieces, "[UNK]"]
        pieces, rest = [*pieces, piece], rest[end:]
    return pieces


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"mark": ""}, "begins with ##"),
        ({"longest": False}, "the longest piece"),
        ({"whole": False}, "the whole word is"),
    ],
)
def test_word_pieces_names_the_mistake(wrong, sentence):
    said = exercises.check_word_pieces(lambda *args: split_word(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_word_pieces_shows_what_it_wants_where_it_knows_no_reason():
    said = exercises.check_word_pieces(lambda word, vocabulary: [word, "##s"])
    assert said.startswith("Not yet: 'play' gives ['play', '##s']")


def measure(old, speakers, means, others, *, centre=True, units="inverse", root=True):
    own = np.array([old[speakers == s].mean(axis=0) for s in speakers])
    covariance = np.cov((old - own if centre else old).T)
    kinds = {"inverse": np.linalg.inv(covariance), "no": np.eye(len(covariance))}
    matrix = kinds.get(units, covariance)
    squares = [[(u - m) @ matrix @ (u - m) for m in means] for u in others]
    return np.sqrt(squares) if root else squares


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"centre": False}, "between speakers"),
        ({"units": "no"}, "without units"),
        ({"units": "covariance"}, "make a distance smaller"),
        ({"root": False}, "take the root"),
    ],
)
def test_speaker_distances_names_the_mistake(wrong, sentence):
    said = exercises.check_speaker_distances(lambda *args: measure(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def explain(scratch, untrained, pretrained, *, control=True, baseline=True, t=2.776):
    def gains(a, b):
        return np.mean(b - a) > t * np.std(b - a, ddof=1) / np.sqrt(len(a))

    if baseline and not gains(scratch, pretrained):
        return "nothing"
    if not control or gains(untrained, pretrained):
        return "source"
    return "architecture"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"control": False}, "what does the control say"),
        ({"t": 0}, "what does the control say"),
        ({"baseline": False}, "ask for verdicts"),
    ],
)
def test_source_of_gain_names_the_mistake(wrong, sentence):
    said = exercises.check_source_of_gain(lambda *args: explain(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_source_of_gain_wants_verdicts_and_scratch():
    def compare_means_with_scratch(scratch, untrained, pretrained):
        found = explain(scratch, untrained, pretrained, baseline=False)
        return found if np.mean(pretrained) > np.mean(scratch) else "nothing"

    def forget_scratch_when_features_gain(scratch, untrained, pretrained):
        found = explain(scratch, untrained, pretrained)
        far = np.mean(pretrained - untrained) > 0.14
        return "source" if far else found

    said = exercises.check_source_of_gain(compare_means_with_scratch)
    assert "ask for verdicts" in said
    said = exercises.check_source_of_gain(forget_scratch_when_features_gain)
    assert "scratch is better all the same" in said


def average_areas(y, p, *, tie=0.5, weights=None, hard=False, turned=False):
    p = np.eye(p.shape[1])[p.argmax(axis=1)] if hard else p
    areas = []
    for c in range(p.shape[1]):
        gaps = p[y == c, c][:, np.newaxis] - p[y != c, c]
        gaps = -gaps if turned else gaps
        areas.append(np.mean((gaps > 0) + tie * (gaps == 0)))
    return np.average(areas, weights=weights and np.bincount(y))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"tie": 0}, "counts a half"),
        ({"weights": True}, "the same weight"),
        ({"hard": True}, "not the answers"),
        ({"turned": True}, "wrong way round"),
    ],
)
def test_one_against_rest_names_the_mistake(wrong, sentence):
    said = exercises.check_one_against_rest(lambda *args: average_areas(*args, **wrong))
    assert said.startswith("Not yet:") and sentence in said


def test_one_against_rest_of_scikit_learn_is_right():
    said = exercises.check_one_against_rest(
        lambda y, p: roc_auc_score(y, p, multi_class="ovr")
    )
    assert said.startswith("Right.")
