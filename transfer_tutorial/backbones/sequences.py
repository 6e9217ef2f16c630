"""Networks from scratch for sequences of different length: token ids, and series."""

import keras


def build_text_gru_backbone(
    vocabulary_size, *, embedding_size=64, units=64, dropout=0.0
):
    """Build a bidirectional GRU over token ids.

    One GRU reads a text from its first token to its last, one from its last to its
    first; the features are the two states at which they arrive. Padding is skipped: a
    text has the same features however many zeros follow it, and the features of a text
    of zeros only are zeros.

    Args:
        vocabulary_size: Number of different ids, the 0 of padding included.
        embedding_size: Width of the vector that is learnt for each token.
        units: Width of each of the two states.
        dropout: Fraction of the entries of the token vectors dropped in training, in
            [0, 1).

    Returns:
        An uncompiled `keras.Model` named `"text_gru"`: integer ids of shape
        `(batch, length)`, in 0...`vocabulary_size` - 1, zeros only at the end, to
        features `(batch, 2 * units)`.

    Raises:
        ValueError: If `vocabulary_size`, `embedding_size` or `units` is too small.

    Reference:
        Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk and Bengio, 2014,
        "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
        Machine Translation".
    """
    if vocabulary_size < 3 or min(embedding_size, units) < 1:
        raise ValueError(
            "`vocabulary_size` must be at least 3 (padding, unknown, one word), and "
            "`embedding_size` and `units` at least 1. "
            f"Received: {vocabulary_size=}, {embedding_size=}, {units=}."
        )
    ids = keras.Input((None,), dtype="int32", name="ids")
    # `mask_zero` makes the mask that the GRU obeys; it travels with the tensor.
    embedding = keras.layers.Embedding(
        vocabulary_size, embedding_size, mask_zero=True, name="token_embedding"
    )
    x = embedding(ids)  # (batch, length, embedding_size)
    if dropout:
        x = keras.layers.Dropout(dropout, name="embedding_dropout")(x)
    gru = keras.layers.GRU(units, name="gru")
    x = keras.layers.Bidirectional(gru, name="bidirectional")(x)
    return keras.Model(ids, x, name="text_gru")


def build_series_gru_backbone(num_channels, *, units=32, dropout=0.0):
    """Build a bidirectional GRU over series of numbers, such as the frames of speech.

    Steps at which every channel is 0 are padding and are skipped: a series has the same
    features however many of them follow it.

    Args:
        num_channels: Numbers at each step.
        units: Width of each of the two states.
        dropout: Fraction of the entries of the steps dropped in training, in [0, 1).

    Returns:
        An uncompiled `keras.Model` named `"series_gru"`: float series of shape
        `(batch, length, num_channels)`, roughly of unit scale, to features
        `(batch, 2 * units)`.

    Raises:
        ValueError: If `num_channels` or `units` is below 1.

    Reference:
        Cho, van Merrienboer, Gulcehre, Bahdanau, Bougares, Schwenk and Bengio, 2014,
        "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
        Machine Translation".
    """
    if min(num_channels, units) < 1:
        raise ValueError(
            "`num_channels` and `units` must be at least 1. "
            f"Received: {num_channels=}, {units=}."
        )
    series = keras.Input((None, num_channels), name="series")
    x = keras.layers.Masking(name="masking")(series)
    if dropout:
        x = keras.layers.Dropout(dropout, name="series_dropout")(x)
    gru = keras.layers.GRU(units, name="gru")
    x = keras.layers.Bidirectional(gru, name="bidirectional")(x)
    return keras.Model(series, x, name="series_gru")


def _attend(x, is_token, num_heads, name):
    """Self-attention out of plain layers, so that each can be named and wrapped."""
    layers, ops, width = keras.layers, keras.ops, x.shape[-1]

    def split(part):  # a Reshape for each: Keras 3.3 cannot load one that is shared
        y = layers.Dense(width, name=f"{name}_{part}")(x)
        heads = (-1, num_heads, width // num_heads)
        return layers.Reshape(heads, name=f"{name}_{part}_heads")(y)

    # Each is (batch, length, num_heads, width / num_heads).
    query, key, value = split("query"), split("key"), split("value")
    scores = ops.einsum("bqhd,bkhd->bhqk", query, key) * (width / num_heads) ** -0.5
    mask = is_token[:, None, None]  # (batch, 1, 1, length): no token looks at padding
    weights = layers.Softmax(name=f"{name}_attention")(scores, mask=mask)
    x = ops.einsum("bhqk,bkhd->bqhd", weights, value)
    x = layers.Reshape((-1, width), name=f"{name}_joined_heads")(x)
    return layers.Dense(width, name=f"{name}_output")(x)


def build_transformer_backbone(
    vocabulary_size, *, max_length=64, width=64, num_heads=4, num_blocks=2, dropout=0.0
):
    """Build a small Transformer encoder over token ids, with the norm first.

    A block adds to its input what attention finds, then what a hidden layer of four
    times the width makes of it; each of the two reads its input through a LayerNorm.
    The features are the mean over the tokens of the last norm. Padding gets no
    attention and no share of the mean.

    Every part is a layer of its own: `block_1_query`, `block_1_key`, `block_1_value`,
    `block_1_output`, `block_1_hidden`, `block_1_projection`, so that LoRA and learning
    rates can be given by name. The output of `block_1_attention`, of shape
    `(batch, num_heads, length, length)`, has the weights that each token (third axis)
    gives to the others (last axis).

    Args:
        vocabulary_size: Number of different ids, the 0 of padding included.
        max_length: Longest sequence, in tokens, at least 2. With a longer one the
            model cannot be called: TensorFlow says that so many places do not fit.
        width: Width of the vectors between the blocks, and number of features.
        num_heads: Heads of the attention; must divide `width`.
        num_blocks: Number of blocks, at least 1.
        dropout: Fraction dropped of what each half of a block adds, in [0, 1).

    Returns:
        An uncompiled `keras.Model` named `"transformer"`: integer ids of shape
        `(batch, length)`, in 0...`vocabulary_size` - 1, zeros only at the end, to
        features `(batch, width)`.

    Raises:
        ValueError: If a size is too small or `num_heads` does not divide `width`.

    Reference:
        Vaswani, Shazeer, Parmar, Uszkoreit, Jones, Gomez, Kaiser and Polosukhin, 2017,
        "Attention Is All You Need". The norm comes first as in Xiong, Yang, He, Zheng,
        Zheng, Xing, Zhang, Lan, Wang and Liu, 2020, "On Layer Normalization in the
        Transformer Architecture".
    """
    sizes = vocabulary_size - 2, max_length - 1, width, num_heads, num_blocks
    if min(sizes) < 1 or width % num_heads:
        raise ValueError(
            "`vocabulary_size` must be at least 3, `max_length` 2, other sizes 1, and "
            f"`num_heads` must divide `width`. Received: {vocabulary_size=}, "
            f"{max_length=}, {width=}, {num_heads=}, {num_blocks=}."
        )
    layers, ops = keras.layers, keras.ops

    def add(x, y, name):
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
        return layers.Add(name=f"{name}_add")([x, y])

    ids = keras.Input((None,), dtype="int32", name="ids")
    is_token = ops.not_equal(ids, 0)
    # Positions 0, 1, 2, ... are cut, so that too many tokens fail on every device.
    positions = ops.cumsum(ops.ones_like(ids[:, :max_length]), axis=1) - 1
    x = layers.Embedding(vocabulary_size, width, name="token_embedding")(ids)
    places = layers.Embedding(max_length, width, name="position_embedding")(positions)
    x = layers.Add(name="embedding")([x, places])  # (batch, length, width)
    for name in [f"block_{i + 1}" for i in range(num_blocks)]:
        y = layers.LayerNormalization(name=f"{name}_attention_norm")(x)
        x = add(x, _attend(y, is_token, num_heads, name), f"{name}_attention")
        y = layers.LayerNormalization(name=f"{name}_norm")(x)
        y = layers.Dense(4 * width, activation="gelu", name=f"{name}_hidden")(y)
        x = add(x, layers.Dense(width, name=f"{name}_projection")(y), f"{name}_hidden")
    x = layers.LayerNormalization(name="norm")(x)
    weight = ops.cast(is_token, x.dtype)[..., None]  # (batch, length, 1)
    total = ops.maximum(ops.sum(weight, axis=1), 1.0)  # a row of padding has no token
    return keras.Model(ids, ops.sum(x * weight, axis=1) / total, name="transformer")
