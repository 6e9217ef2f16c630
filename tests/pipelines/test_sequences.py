import numpy as np
import pytest
import tokenizers

from transfer_tutorial.pipelines import pad_series, tokenize_texts, train_tokenizer
from transfer_tutorial.pretrained import load_minilm_tokenizer

TEXTS = ["good film", "good book :)", "bad film", "good film"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, min_count=1)


def spell(tokenizer, ids):
    return [tokenizer.id_to_token(int(i)) for i in ids]


def test_the_vocabulary_has_padding_unknown_and_then_the_most_frequent_words(tokenizer):
    # good and film occur three times, the others once, in the order of the alphabet.
    words = ["[PAD]", "[UNK]", "film", "good", ":)", "bad", "book"]
    assert spell(tokenizer, range(tokenizer.get_vocab_size())) == words


def test_the_vocabulary_can_be_cut_by_size_and_by_count():
    assert train_tokenizer(TEXTS, max_tokens=4).get_vocab_size() == 4
    assert train_tokenizer(TEXTS, min_count=3).get_vocab_size() == 4
    assert train_tokenizer(TEXTS, min_count=4).get_vocab_size() == 2


def test_the_same_texts_give_the_same_vocabulary():
    assert train_tokenizer(TEXTS).to_str() == train_tokenizer(TEXTS).to_str()


def test_texts_become_ids_with_zeros_behind_the_shorter_ones(tokenizer):
    ids = tokenize_texts(tokenizer, ["Good book :)", "BAD"])
    assert ids.dtype == "int32"
    assert ids.tolist() == [[3, 6, 4], [5, 0, 0]]


def test_punctuation_and_words_are_separate_tokens():
    tokenizer = train_tokenizer(["Great!!! :) don't"], min_count=1)
    [ids] = tokenize_texts(tokenizer, ["GREAT!!! :) don't"])
    assert spell(tokenizer, ids) == ["great", "!!!", ":)", "don", "'", "t"]


def test_words_outside_of_the_vocabulary_are_unknown(tokenizer):
    assert tokenize_texts(tokenizer, ["good 映画"]).tolist() == [[3, 1]]


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_a_text_without_tokens_is_one_unknown_token(tokenizer, text):
    assert tokenize_texts(tokenizer, [text]).tolist() == [[1]]
    assert tokenize_texts(tokenizer, [text, "good film"]).tolist() == [[1, 0], [3, 2]]


def test_of_a_long_text_the_first_tokens_stay(tokenizer):
    ids = tokenize_texts(tokenizer, ["good " * 50, "bad"], max_length=3)
    assert ids.tolist() == [[3, 3, 3], [5, 0, 0]]
    assert tokenize_texts(tokenizer, ["good " * 64 + "bad"]).shape == (1, 64)


def test_a_long_text_keeps_what_the_tokenizer_puts_around_it():
    minilm = load_minilm_tokenizer()
    [ids] = tokenize_texts(minilm, ["good " * 50], max_length=4)
    assert spell(minilm, ids) == ["[CLS]", "good", "good", "[SEP]"]
    assert spell(minilm, tokenize_texts(minilm, [""])[0]) == ["[CLS]", "[SEP]"]


def test_tokenizing_leaves_the_tokenizer_as_it_was():
    minilm = load_minilm_tokenizer()
    minilm.enable_padding(length=7)
    before = minilm.to_str()
    assert tokenize_texts(minilm, ["good"], max_length=3).shape == (1, 3)
    assert minilm.to_str() == before


def test_arrays_of_str_are_texts_too(tokenizer):
    expected = tokenize_texts(tokenizer, TEXTS)
    for texts in (np.array(TEXTS), np.array(TEXTS, object), tuple(TEXTS)):
        np.testing.assert_array_equal(tokenize_texts(tokenizer, texts), expected)
    assert train_tokenizer(np.array(TEXTS)).to_str() == train_tokenizer(TEXTS).to_str()


@pytest.mark.parametrize("call", [train_tokenizer, "tokenize"])
@pytest.mark.parametrize(
    ("texts", "received"),
    [
        ([], r"\[\]"),
        (np.array([], str), "array"),
        ("good film", "'good film'"),
        (b"good film", "b'good film'"),
        (["good", None], "None at index 1"),
        (["good", float("nan")], "nan at index 1"),
        ([b"good"], "b'good' at index 0"),
        ([3], "3 at index 0"),
    ],
)
def test_what_is_no_text_is_refused_by_name(tokenizer, call, texts, received):
    if call == "tokenize":
        call = lambda texts: tokenize_texts(tokenizer, texts)  # noqa: E731
    with pytest.raises(ValueError, match=f"`texts` must .*Received: .*{received}"):
        call(texts)


@pytest.mark.parametrize("max_length", [0, -1, 2.5])
def test_a_length_without_room_for_a_token_is_refused(tokenizer, max_length):
    with pytest.raises(ValueError, match=f"`max_length` .* Received: {max_length}"):
        tokenize_texts(tokenizer, TEXTS, max_length=max_length)


def test_two_tokens_around_every_text_need_room_too():
    with pytest.raises(ValueError, match="`max_length` .* above 2, .* Received: 2"):
        tokenize_texts(load_minilm_tokenizer(), TEXTS, max_length=2)


def test_a_vocabulary_needs_room_for_a_word():
    with pytest.raises(ValueError, match="`max_tokens` .* Received: .*max_tokens=2"):
        train_tokenizer(TEXTS, max_tokens=2)


def test_a_tokenizer_that_pads_with_another_id_is_refused():
    vocabulary = {"[UNK]": 0, "[PAD]": 1, "good": 2}
    model = tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]")
    with pytest.raises(ValueError, match="`tokenizer` .* Received: ids 1 and 0"):
        tokenize_texts(tokenizers.Tokenizer(model), TEXTS)


def test_series_are_padded_with_zeros_at_the_end():
    padded = pad_series([[[1, 2]], [[3, 4], [5, 6], [0, 7]]])
    assert padded.dtype == "float32"
    assert padded.tolist() == [
        [[1, 2], [0, 0], [0, 0]],
        [[3, 4], [5, 6], [0, 7]],
    ]


def test_of_a_long_series_the_first_steps_stay():
    assert pad_series([[[1.0], [2.0], [3.0]]], max_length=2).tolist() == [[[1], [2]]]


@pytest.mark.parametrize(
    ("series", "received"),
    [
        ([], "0 series"),
        ([np.ones((2, 3)), np.ones((2, 4))], r"shape \(2, 4\) .* at index 1"),
        ([np.ones(3)], r"shape \(3,\) .* at index 0"),
        ([np.ones((2, 3)), np.ones((0, 3))], r"shape \(0, 3\) .* at index 1"),
        ([[[1.0], [float("nan")]]], "NaN or infinity at index 0"),
        ([[[1.0], [float("inf")]]], "NaN or infinity at index 0"),
        ([[[1.0], [0.0]]], "a step that is 0 in every channel at index 0"),
    ],
)
def test_series_that_cannot_be_padded_are_refused_by_name(series, received):
    with pytest.raises(ValueError, match=f"`series` must .*Received: {received}"):
        pad_series(series)


def test_series_cannot_be_cut_to_nothing():
    with pytest.raises(ValueError, match="`max_length` .* Received: .*max_length=0"):
        pad_series([[[1.0]]], max_length=0)
