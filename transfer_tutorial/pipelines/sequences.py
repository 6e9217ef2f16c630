"""Texts and series of different length to one array, padded with zeros at the end."""

import copy
import numbers

import numpy as np
import tokenizers


def train_tokenizer(texts, *, max_tokens=10_000, min_count=2):
    """Collect the words of some texts: the vocabulary of a model from scratch.

    Letters become small ones. Words and runs of punctuation are separate tokens, so
    that `"Great!!! :)"` has three. Labels are not needed: texts without labels count.

    Args:
        texts: List or array of str, at least one.
        max_tokens: Size of the vocabulary; the most frequent words stay. Includes
            `[PAD]`, which has id 0, and `[UNK]` for all other words, which has id 1.
        min_count: How often a word must occur to be kept.

    Returns:
        A `tokenizers.Tokenizer`; `get_vocab_size()` tells how many ids it has.

    Raises:
        ValueError: If `texts` is no list of str, or `max_tokens` is below 3.
    """
    if isinstance(texts, str | bytes) or len(texts) == 0 or max_tokens < 3:
        raise ValueError(
            "`texts` must be a list of at least one str, and `max_tokens` at least 3. "
            f"Received: texts={texts!r:.60}, max_tokens={max_tokens}."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"`texts` must hold str only. Received: {text!r:.60} at index {i}."
            )
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=max_tokens,
        min_frequency=min_count,
        special_tokens=["[PAD]", "[UNK]"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([str(text) for text in texts], trainer)
    return tokenizer


def tokenize_texts(tokenizer, texts, *, max_length=64):
    """Turn texts into token ids, zeros at the end of the shorter ones.

    Of a longer text the first tokens stay; what a tokenizer puts around every text,
    such as `[CLS]` and `[SEP]`, stays too and counts. A text without any token, such as
    the empty one, becomes a single `[UNK]`, because a model cannot read nothing. Where
    someone has written `[PAD]` into a text, that word is read as padding.

    Args:
        tokenizer: A `tokenizers.Tokenizer` whose `[PAD]` has id 0; not changed.
        texts: List or array of str, at least one.
        max_length: Most tokens a text, at least 1 beside those around every text.

    Returns:
        int32 ids of shape `(n, longest)`, where `longest` is the number of tokens of
        the longest text, at most `max_length`.

    Raises:
        ValueError: If `texts` is empty, a single str or bytes, or holds anything but
            str, if `max_length` is too small, or the tokenizer pads with another id.
    """
    if isinstance(texts, str | bytes) or len(texts) == 0:
        raise ValueError(
            f"`texts` must be a list of at least one str. Received: {texts!r:.60}."
        )
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(
                f"`texts` must hold str only. Received: {text!r:.60} at index {i}."
            )
    if tokenizer.token_to_id("[PAD]") != 0 or tokenizer.token_to_id("[UNK]") is None:
        raise ValueError(
            "`tokenizer` must have [PAD] with id 0, and [UNK]. Received: ids "
            f"{tokenizer.token_to_id('[PAD]')} and {tokenizer.token_to_id('[UNK]')}."
        )
    around = tokenizer.num_special_tokens_to_add(is_pair=False)
    if not isinstance(max_length, numbers.Integral) or max_length <= around:
        raise ValueError(
            f"`max_length` must be an integer above {around}, the number of tokens "
            f"around every text. Received: {max_length}."
        )
    tokenizer = copy.deepcopy(tokenizer)  # the caller's keeps its own settings
    tokenizer.no_padding()
    tokenizer.enable_truncation(int(max_length))
    rows = [encoding.ids for encoding in tokenizer.encode_batch(list(map(str, texts)))]
    rows = [row or [tokenizer.token_to_id("[UNK]")] for row in rows]
    ids = np.zeros((len(rows), max(map(len, rows))), "int32")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids


def pad_series(series, *, max_length=None):
    """Put series of different length into one array, zeros after the end of each.

    Args:
        series: List of float arrays of shape `(length, num_channels)`, each with at
            least one step and the same channels. No step may be zero in all channels:
            it would be taken for padding.
        max_length: Most steps of a series; the first ones stay. None keeps all.

    Returns:
        float32 array of shape `(n, longest, num_channels)`.

    Raises:
        ValueError: If `series` is empty, `max_length` is below 1, or a series has
            another shape, NaN, infinity, or a step of zeros only.
    """
    if len(series) == 0 or (max_length is not None and max_length < 1):
        raise ValueError(
            "`series` must have at least one, and `max_length` must be at least 1. "
            f"Received: {len(series)} series, max_length={max_length}."
        )
    rows = [np.asarray(row, "float32")[:max_length] for row in series]
    for i, row in enumerate(rows):
        defect = None
        if row.ndim != 2 or len(row) == 0 or row.shape[1:] != rows[0].shape[1:]:
            defect = f"shape {row.shape} beside {rows[0].shape}"
        elif not np.isfinite(row).all():
            defect = "NaN or infinity"
        elif not row.any(axis=1).all():
            defect = "a step that is 0 in every channel"
        if defect:
            raise ValueError(
                "`series` must be finite arrays (length, num_channels) whose steps are "
                f"not all 0. Received: {defect} at index {i}."
            )
    padded = np.zeros((len(rows), max(map(len, rows)), rows[0].shape[1]), "float32")
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return padded
