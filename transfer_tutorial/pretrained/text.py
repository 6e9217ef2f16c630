"""Pretrained on text: MiniLM-L6, a small BERT, and its tokenizer.

Where the weights come from, and under which licence, stands in `weights/SOURCES.md`.
"""

import hashlib
import io
import pathlib

import keras
import numpy as np
import tokenizers

_WEIGHTS = pathlib.Path(__file__).parent.parent / "weights"


def _read_bundled(name):
    """The bytes of a bundled file, checked against `SHA256SUMS`."""
    path = _WEIGHTS / name
    repair = (
        "Reinstall the package, or run "
        "`python tools/build_weights.py minilm_l6` in a checkout."
    )
    for needed in (path, _WEIGHTS / "SHA256SUMS"):
        if not needed.is_file():
            raise FileNotFoundError(f"The bundled file {needed} is missing. {repair}")
    content = path.read_bytes()
    lines = (_WEIGHTS / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    expected = {line.split()[1]: line.split()[0] for line in lines}
    if hashlib.sha256(content).hexdigest() != expected.get(name):
        raise OSError(f"The bundled file {path} is damaged (SHA-256 differs). {repair}")
    return content


def _load_weights(layers, name):
    """Fill `layers` from a bundled file, in place.

    The file has an array for each weight, named `"layer/weight"`. A matrix is stored in
    8 bits, a kernel as (out, in), and beside it, as `"layer/weight/scales"`, what each
    64 numbers in a row have to be multiplied by.
    """
    with np.load(io.BytesIO(_read_bundled(name)), allow_pickle=False) as stored:
        for layer in layers:
            for variable in layer.weights:
                key = f"{layer.name}/{variable.name}"
                value = stored[key]
                if f"{key}/scales" in stored:
                    scales = stored[f"{key}/scales"].astype("float32")
                    blocks = value.reshape(-1, 64) * scales[:, None]
                    value = blocks.reshape(value.shape)
                variable.assign(value.T if variable.name == "kernel" else value)


def _attend(x, is_token, num_heads, name):
    """Self-attention out of plain layers, as in `build_transformer_backbone`."""
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


def build_minilm_backbone(*, weights="minilm"):
    """Build MiniLM-L6, a Transformer trained on a billion pairs of sentences.

    Six blocks of attention with 12 heads and a hidden layer of 1,536 units, each
    followed by a LayerNorm, as in BERT; 22.6 million weights. The features are the mean
    over the tokens, brought to length 1, so that the product of two texts' features is
    their similarity in -1...1. Padding gets no attention and no share of the mean; the
    features of a row that is nothing but padding are zeros.

    The parts are named as in `build_transformer_backbone`: `block_1_query`,
    `block_1_key`, `block_1_value`, `block_1_output`, `block_1_hidden`,
    `block_1_projection` ... `block_6_projection`; the output of `block_1_attention` are
    the attention weights, `(batch, 12, length, length)`.

    Args:
        weights: `"minilm"` for the shipped weights, which are rounded to 8 bits and
            held in float32; `None` for random ones.

    Returns:
        An uncompiled `keras.Model` named `"minilm"`: token ids of shape
        `(batch, length)`, as `load_minilm_tokenizer` and `pipelines.tokenize_texts`
        make them, with at most 512 tokens, to features `(batch, 384)`. With more it
        cannot be called: TensorFlow says that 512 places do not fit them.

    Raises:
        ValueError: If `weights` is unknown.
        FileNotFoundError: If the shipped weights are missing.
        OSError: If the shipped weights are damaged.

    Reference:
        Wang, Wei, Dong, Bao, Yang and Zhou, 2020, "MiniLM: Deep Self-Attention
        Distillation for Task-Agnostic Compression of Pre-Trained Transformers"; the
        sentence features follow Reimers and Gurevych, 2019, "Sentence-BERT: Sentence
        Embeddings using Siamese BERT-Networks".
    """
    if weights not in ("minilm", None):
        raise ValueError(
            f'`weights` must be "minilm" or None. Received: weights={weights!r}.'
        )
    layers, ops = keras.layers, keras.ops

    def add_and_norm(x, change, name):
        x = layers.Add(name=f"{name}_add")([x, change])
        return layers.LayerNormalization(epsilon=1e-12, name=name)(x)

    ids = keras.Input((None,), dtype="int32", name="ids")
    is_token = ops.not_equal(ids, 0)  # (batch, length)
    # 0, 1, 2, ...; cut, so that more than 512 tokens fail with XLA and on a GPU, too.
    positions = ops.cumsum(ops.ones_like(ids[:, :512]), axis=1) - 1
    x = layers.Embedding(30522, 384, name="token_embedding")(ids)
    places = layers.Embedding(512, 384, name="position_embedding")(positions)
    x = add_and_norm(x, places, "embedding_norm")  # (batch, length, 384)
    for name in [f"block_{i}" for i in range(1, 7)]:
        x = add_and_norm(x, _attend(x, is_token, 12, name), f"{name}_attention_norm")
        y = layers.Dense(1536, name=f"{name}_hidden")(x)
        y = ops.gelu(y, approximate=False)  # BERT's exact one, not the tanh
        y = layers.Dense(384, name=f"{name}_projection")(y)
        x = add_and_norm(x, y, f"{name}_norm")
    weight = ops.cast(is_token, x.dtype)[..., None]  # (batch, length, 1)
    # Bringing the sum to length 1 is bringing the mean to length 1.
    features = layers.UnitNormalization(name="features")(ops.sum(x * weight, axis=1))
    backbone = keras.Model(ids, features, name="minilm")
    if weights == "minilm":
        _load_weights(backbone.layers, "minilm_l6.npz")
    return backbone


def load_minilm_tokenizer():
    """Load MiniLM's tokenizer: small letters, no accents, words in pieces.

    A word outside of its 30,522 pieces is put together from several, down to single
    letters, so `[UNK]` is rare. It puts `[CLS]` before each text and `[SEP]` behind it.

    Returns:
        A `tokenizers.Tokenizer`, for `pipelines.tokenize_texts`.

    Raises:
        FileNotFoundError: If the bundled vocabulary is missing.
        OSError: If the bundled vocabulary is damaged.

    Reference:
        Devlin, Chang, Lee and Toutanova, 2019, "BERT: Pre-training of Deep
        Bidirectional Transformers for Language Understanding".
    """
    pieces = _read_bundled("minilm_l6_vocabulary.txt").decode("utf-8").split("\n")
    vocabulary = {piece: i for i, piece in enumerate(pieces[:-1])}
    model = tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.add_special_tokens(special)
    around = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=around
    )
    return tokenizer
