import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from transfer_tutorial.backbones import attach_head
from transfer_tutorial.linear_probe import extract_features
from transfer_tutorial.lora import add_lora
from transfer_tutorial.pipelines import tokenize_texts
from transfer_tutorial.pretrained import (
    build_minilm_backbone,
    load_minilm_tokenizer,
    text,
)

# Made by `tools/minilm.py` from the published float weights, without Keras and without
# the library `tokenizers`.
REFERENCE = Path(__file__).with_name("minilm_reference.npz")


@pytest.fixture(scope="session")
def minilm():
    return build_minilm_backbone()


@pytest.fixture(scope="session")
def tokenizer():
    return load_minilm_tokenizer()


@pytest.fixture(scope="session")
def reference():
    """Texts, token ids of up to 128 tokens, and the features of the float weights."""
    with np.load(REFERENCE, allow_pickle=False) as stored:
        texts = [json.loads(line) for line in stored["texts"]]
        return texts, stored["ids"], stored["features"]


def infer(model, x):
    return np.asarray(model(x, training=False))


def test_the_reference_has_200_texts_and_the_awkward_ones(reference):
    texts, ids, features = reference
    assert len(set(texts)) == len(texts) == len(ids) == len(features) == 200
    assert {"", " ", "😀", "这部电影非常好看。"} < set(texts)
    assert max(len(t.split()) for t in texts) > 128 == ids.shape[1]


def test_token_ids_are_those_of_the_published_tokenizer(tokenizer, reference):
    texts, ids, _ = reference
    np.testing.assert_array_equal(tokenize_texts(tokenizer, texts, max_length=128), ids)


def test_features_are_those_of_the_published_weights(minilm, reference):
    _, ids, expected = reference
    lengths = np.count_nonzero(ids, axis=1)
    order = np.argsort(lengths)  # so that little is padding
    features = np.concatenate(
        [
            extract_features(minilm, ids[rows, : lengths[rows].max()], verbose=0)
            for rows in np.array_split(order, 20)
        ]
    )[np.argsort(order)]
    assert features.shape == (200, 384) and features.dtype == "float32"
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, rtol=1e-5)
    assert np.sum(features * expected, axis=1).min() > 0.999


@pytest.mark.parametrize("kind", ["", "long_"])
def test_the_network_is_the_published_one_apart_from_the_rounding(minilm, kind):
    # An independent network with the rounded weights: only float32 is between them, not
    # the 0.001 above, in which another gelu or epsilon would not be seen.
    with np.load(REFERENCE, allow_pickle=False) as stored:
        expected = stored[f"{kind}rounded_features"]
        ids = stored[f"{kind}ids"][: len(expected)]
    assert len(expected) >= (1 if kind else 40)
    np.testing.assert_allclose(infer(minilm, ids), expected, rtol=0, atol=2e-6)


def test_a_text_of_512_tokens_has_the_published_ids_and_features(minilm, tokenizer):
    with np.load(REFERENCE, allow_pickle=False) as stored:
        text = json.loads(stored["long_texts"][0])
        ids, expected = stored["long_ids"], stored["long_features"]
    assert ids.shape == (1, 512) and (ids != 0).all()
    found = tokenize_texts(tokenizer, [text], max_length=512)
    np.testing.assert_array_equal(found, ids)
    assert np.sum(infer(minilm, ids) * expected) > 0.999


def test_texts_of_one_meaning_are_nearer_than_texts_of_the_same_words(
    minilm, tokenizer
):
    texts = [
        "The dog bites the man.",
        "A man was bitten by a dog.",
        "The man bites the dog.",
        "Interest rates were raised.",
    ]
    similarity = infer(minilm, tokenize_texts(tokenizer, texts))
    similarity = similarity @ similarity.T
    assert similarity[0, 1] > similarity[1, 2] > similarity[0, 3]


def test_padding_does_not_change_the_features(minilm, reference):
    ids = reference[1][100:104]
    ids = ids[:, : np.count_nonzero(ids, axis=1).max()]
    features = infer(minilm, ids)
    np.testing.assert_allclose(
        infer(minilm, np.pad(ids, ((0, 0), (0, 40)))), features, atol=1e-5
    )
    for row, expected in zip(ids, features, strict=True):
        [alone] = infer(minilm, row[np.newaxis, : np.count_nonzero(row)])
        np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_padding_gets_no_attention(minilm, tokenizer):
    layers = [minilm.get_layer(f"block_{i}_attention") for i in range(1, 7)]
    attention = keras.Model(minilm.input, [layer.output for layer in layers])
    ids = tokenize_texts(tokenizer, ["good", "a good film, and a long one"])
    for weights in attention(ids):
        weights = np.asarray(weights)
        assert weights.shape == (2, 12, ids.shape[1], ids.shape[1])
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-4)
        assert (weights[0, :, :, 3:] == 0).all()  # [CLS] good [SEP]


def test_nothing_but_padding_gives_zeros_and_leaves_the_other_rows_alone(minilm):
    ids = np.array([[0, 0, 0], [101, 2204, 102]], "int32")
    features = infer(minilm, ids)
    assert (features[0] == 0).all()
    np.testing.assert_allclose(features[1:], infer(minilm, ids[1:]), atol=1e-6)


def test_a_padding_written_into_a_text_is_read_as_padding(minilm, tokenizer):
    [with_pad] = tokenize_texts(tokenizer, ["good [PAD]"])
    assert with_pad.tolist() == [101, 2204, 0, 102]
    assert np.isfinite(infer(minilm, with_pad[np.newaxis])).all()


def test_512_tokens_are_taken_and_more_refused(minilm):
    ids = np.full((1, 513), 2204, "int32")
    assert np.isfinite(infer(minilm, ids[:, :512])).all()
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"513,384\].*512,384\]"):
        infer(minilm, ids)
    # Compiled by XLA, looking up a place that is not there would give another one.
    with pytest.raises(ValueError, match="must be equal, but are 513 and 512"):
        tf.function(minilm, jit_compile=True)(ids)


def test_minilm_has_the_parameters_counted_by_hand(minilm):
    # Query, key, value and output; hidden layer and projection; two norms.
    block = 4 * (384 * 384 + 384) + (384 * 1536 + 1536) + (1536 * 384 + 384) + 4 * 384
    assert minilm.count_params() == (30522 + 512) * 384 + 2 * 384 + 6 * block


def test_minilm_is_an_uncompiled_backbone(minilm):
    assert minilm.name == "minilm" and not minilm.compiled
    assert minilm.output_shape == (None, 384)
    assert attach_head(minilm, 3).output_shape == (None, 3)


# Keras 3.15 saves in a way that NumPy 2.4 calls deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_saved_and_loaded_classifier_predicts_the_same(minilm, reference, tmp_path):
    classifier, ids = attach_head(minilm, 3), reference[1][100:104]
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.saving.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(
        infer(loaded, ids), infer(classifier, ids), rtol=1e-4, atol=1e-6
    )


def test_minilm_takes_lora_on_its_attention(minilm, reference):
    ids, names = reference[1][100:104], ["block_6_query", "block_6_value"]
    adapted = add_lora(minilm, 4, layer_names=names)
    np.testing.assert_allclose(infer(adapted, ids), infer(minilm, ids), atol=1e-5)
    count = sum(int(np.prod(v.shape)) for v in adapted.trainable_variables)
    assert count == 2 * 4 * (384 + 384)
    minilm.trainable = True  # it is shared with the other tests


def test_without_weights_minilm_is_random(minilm, reference):
    ids = reference[1][100:104]
    fresh = build_minilm_backbone(weights=None)
    assert [w.shape for w in fresh.weights] == [w.shape for w in minilm.weights]
    assert np.abs(infer(fresh, ids) - infer(minilm, ids)).max() > 0.1


def test_the_tokenizer_cuts_and_pads_nothing_by_itself(tokenizer):
    assert tokenizer.truncation is None and tokenizer.padding is None
    assert tokenizer.get_vocab_size() == 30522
    assert len(tokenizer.encode("word " * 600).ids) == 602


def test_unknown_weights_are_refused():
    with pytest.raises(ValueError, match="`weights` .* Received: weights='bert'"):
        build_minilm_backbone(weights="bert")


@pytest.fixture
def copied_weights(tmp_path, monkeypatch):
    for name in ("minilm_l6.npz", "minilm_l6_vocabulary.txt", "SHA256SUMS"):
        shutil.copy(text._WEIGHTS / name, tmp_path)
    monkeypatch.setattr(text, "_WEIGHTS", tmp_path)
    return tmp_path


BUNDLED = [
    ("minilm_l6.npz", build_minilm_backbone),
    ("minilm_l6_vocabulary.txt", load_minilm_tokenizer),
]


@pytest.mark.parametrize(("name", "load"), BUNDLED)
@pytest.mark.parametrize("missing", ["file", "SHA256SUMS"])
def test_a_missing_file_is_named(copied_weights, name, load, missing):
    path = copied_weights / (name if missing == "file" else missing)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"{path.name} is missing. Reinstall"):
        load()


@pytest.mark.parametrize(("name", "load"), BUNDLED)
def test_a_damaged_file_is_refused(copied_weights, name, load):
    content = bytearray((copied_weights / name).read_bytes())
    content[1000] ^= 1
    (copied_weights / name).write_bytes(content)
    with pytest.raises(OSError, match=f"{name} is damaged"):
        load()
