"""Labelled arrays: `load_*` is bundled and never touches the network, `fetch_*` may.

All answer in the same shape, `((x_train, y_train), (x_test, y_test))`. The origin and
the licence or terms of each bundled file stand in `data/SOURCES.md`.
"""

import csv
import gzip
import hashlib
import io
import os
import pathlib
import shutil

import keras
import numpy as np

CIFAR10_CLASSES = tuple(
    "airplane automobile bird cat deer dog frog horse ship truck".split()
)
# The classes that the source CNN was trained on, and those it never saw.
SOURCE_CLASSES = ("airplane", "bird", "dog", "frog", "horse", "truck")
TARGET_CLASSES = ("automobile", "cat", "deer", "ship")

_DATA = pathlib.Path(__file__).parent / "data"


def _read_bundled(name):
    """Return the bytes of a bundled file after checking them against `SHA256SUMS`."""
    path = _DATA / name
    repair = "Reinstall the package, or run `python tools/build_data.py` in a checkout."
    for needed in (path, _DATA / "SHA256SUMS"):
        if not needed.is_file():
            raise FileNotFoundError(f"The bundled file {needed} is missing. {repair}")
    content = path.read_bytes()
    sums = (_DATA / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    if f"{hashlib.sha256(content).hexdigest()}  {name}" not in sums:
        raise OSError(f"The bundled file {path} is damaged (SHA-256 differs). {repair}")
    return content


def _load_arrays(name):
    """Return `((x_train, y_train), (x_test, y_test))` of a bundled `.npz` file."""
    keys = ("x_train", "y_train", "x_test", "y_test")
    with np.load(io.BytesIO(_read_bundled(name)), allow_pickle=False) as file:
        x_train, y_train, x_test, y_test = (file[key] for key in keys)
    return (x_train, y_train), (x_test, y_test)


def load_cifar10_mini():
    """Load the first pictures of each class of CIFAR-10 (bundled).

    ================  =================================
    classes           10, named in `CIFAR10_CLASSES`
    pictures a class  300 for training, 100 for testing
    shape and type    `(n, 32, 32, 3)`, uint8, 0...255
    ================  =================================

    Returns:
        `((x_train, y_train), (x_test, y_test))` with 3,000 and 1,000 pictures;
        labels are int64 in 0...9. Test pictures come from CIFAR-10's test set.

    Raises:
        FileNotFoundError: If the bundled file is missing.
        OSError: If the bundled file is damaged.

    Reference:
        Krizhevsky, 2009, "Learning Multiple Layers of Features from Tiny Images".
    """
    return _load_arrays("cifar10_mini.npz")


def load_mnist_mini():
    """Load 5,000 handwritten digits of MNIST (bundled).

    ==============  ================================================
    classes         10 digits
    pictures        4,000 for training, 1,000 for testing
    shape and type  `(n, 28, 28, 1)`, uint8, 0 (paper) ... 255 (ink)
    ==============  ================================================

    Returns:
        `((x_train, y_train), (x_test, y_test))`; labels are int64 in 0...9.

    Raises:
        FileNotFoundError: If the bundled file is missing.
        OSError: If the bundled file is damaged.

    Reference:
        LeCun, Bottou, Bengio and Haffner, 1998, "Gradient-Based Learning Applied
        to Document Recognition".
    """
    (x_train, y_train), (x_test, y_test) = _load_arrays("mnist_mini.npz")
    return (x_train[..., np.newaxis], y_train), (x_test[..., np.newaxis], y_test)


def load_digits_8x8():
    """Load the 1,797 UCI handwritten digits that scikit-learn carries.

    ==============  ==============================================
    classes         10 digits
    pictures        1,347 for training, 450 for testing
    shape and type  `(n, 8, 8, 1)`, uint8, 0 (paper) ... 255 (ink)
    ==============  ==============================================

    scikit-learn's values 0...16 are stretched to 0...255, so that every image in
    this package has one range. The test set is the last quarter, in the original
    order, so that few writers are in both.

    Returns:
        `((x_train, y_train), (x_test, y_test))`; labels are int64 in 0...9.

    Reference:
        Alpaydin and Kaynak, 1998, "Optical Recognition of Handwritten Digits",
        UCI Machine Learning Repository.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    x = np.round(digits.images * (255 / 16)).astype("uint8")[..., np.newaxis]
    y = digits.target.astype("int64")
    return (x[:1347], y[:1347]), (x[1347:], y[1347:])


def load_japanese_vowels():
    """Load utterances of two Japanese vowels by nine men (bundled).

    ==============  ==============================================================
    classes         9 speakers
    utterances      270 for training (30 a speaker), 370 for testing
    shape and type  `(n, 29, 12)`, float32: time steps x LPC cepstrum coefficients
    ==============  ==============================================================

    An utterance lasts 7 to 29 steps; the steps after its end are 0.

    Returns:
        `((x_train, y_train), (x_test, y_test))`; labels are int64 in 0...8. The
        division is the one of the authors.

    Raises:
        FileNotFoundError: If the bundled file is missing.
        OSError: If the bundled file is damaged.

    Reference:
        Kudo, Toyama and Shimbo, 1999, "Multidimensional Curve Classification Using
        Passing-Through Regions".
    """
    return _load_arrays("japanese_vowels.npz")


def load_sentiment(domain):
    """Load short texts that people rated from negative to positive (bundled).

    A text is positive when its mean rating is above 0 and negative when it is
    below; the few rated exactly 0 are left out. No document (a review, an article)
    has snippets in both training and test set.

    Args:
        domain: `"movies"`, `"products"`, `"editorials"` or `"tweets"`.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: arrays of str, and int64 labels, 0
        for negative and 1 for positive.

    Raises:
        ValueError: If `domain` is none of the four.
        FileNotFoundError: If the bundled file is missing.
        OSError: If the bundled file is damaged.

    Reference:
        Hutto and Gilbert, 2014, "VADER: A Parsimonious Rule-Based Model for
        Sentiment Analysis of Social Media Text".
    """
    domains = ("movies", "products", "editorials", "tweets")
    if domain not in domains:
        raise ValueError(f"`domain` must be one of {domains}. Received: {domain!r}.")
    content = gzip.decompress(_read_bundled("sentiment.csv.gz")).decode("utf-8")
    rows = [
        row
        for row in csv.DictReader(io.StringIO(content, newline=""))
        if row["domain"] == domain and float(row["valence"]) != 0
    ]

    def part(split):
        chosen = [row for row in rows if row["split"] == split]
        labels = [int(float(row["valence"]) > 0) for row in chosen]
        return np.array([row["text"] for row in chosen]), np.array(labels, "int64")

    return part("train"), part("test")


def select_classes(x, y, classes):
    """Keep the rows of some classes and renumber the labels 0, 1, 2...

    Args:
        x: Array of shape `(n, ...)`.
        y: Integer labels of shape `(n,)`.
        classes: Labels to keep, in the order of their new numbers.

    Returns:
        `(x, y)` with the kept rows in their old order; label `classes[i]` is now
        `i`.

    Raises:
        ValueError: If `x` and `y` differ in length, a class is named twice, fewer
            than two are named, or one does not occur in `y`.
    """
    x, y, classes = np.asarray(x), np.asarray(y), list(classes)
    if len(x) != len(y):
        raise ValueError(
            "`x` and `y` must have the same length. "
            f"Received: len(x)={len(x)}, len(y)={len(y)}."
        )
    missing = [c for c in classes if not np.any(y == c)]
    if len(classes) < 2 or len(set(classes)) < len(classes) or missing:
        raise ValueError(
            "`classes` must name at least two different labels that occur in `y`. "
            f"Received: classes={classes}, of which absent: {missing}."
        )
    keep = np.isin(y, classes)
    new_label = {old: new for new, old in enumerate(classes)}
    return x[keep], np.array([new_label[old] for old in y[keep]], "int64")


def fetch_cifar10(*, classes=None):
    """Fetch all of CIFAR-10 through Keras (170 MB, downloaded once).

    Args:
        classes: Labels in 0...9 to keep, renumbered in this order; None keeps all.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: uint8 pictures `(n, 32, 32, 3)` in
        0...255, int64 labels of shape `(n,)`. 5,000 training and 1,000 test
        pictures a class.

    Raises:
        OSError: If the download fails or the cached archive is damaged; nothing
            half-written stays in Keras' cache.
        ValueError: If a class is outside 0...9.
    """
    return _fetch("cifar-10", keras.datasets.cifar10.load_data, 10, classes)


def fetch_cifar100(*, label_mode="fine", classes=None):
    """Fetch all of CIFAR-100 through Keras (170 MB, downloaded once).

    Args:
        label_mode: `"fine"` for 100 classes, `"coarse"` for 20 groups of five.
        classes: Labels to keep, renumbered in this order; None keeps all.

    Returns:
        `((x_train, y_train), (x_test, y_test))`: uint8 pictures `(n, 32, 32, 3)` in
        0...255, int64 labels of shape `(n,)`. 500 training and 100 test pictures a
        fine class.

    Raises:
        OSError: If the download fails or the cached archive is damaged; nothing
            half-written stays in Keras' cache.
        ValueError: If `label_mode` is neither of the two, or a class is outside the
            labels.
    """
    if label_mode not in ("fine", "coarse"):
        raise ValueError(
            f'`label_mode` must be "fine" or "coarse". Received: {label_mode!r}.'
        )
    num_classes = 100 if label_mode == "fine" else 20
    return _fetch(
        "cifar-100",
        lambda: keras.datasets.cifar100.load_data(label_mode),
        num_classes,
        classes,
    )


def _fetch(name, load, num_classes, classes):
    """Run one of Keras' loaders, leave no debris when it fails, select the classes."""
    classes = None if classes is None else list(classes)
    outside = [c for c in classes or () if c not in range(num_classes)]
    if outside:
        raise ValueError(
            f"`classes` must be labels in 0...{num_classes - 1}. Received: {outside}."
        )
    home = pathlib.Path(os.environ.get("KERAS_HOME", pathlib.Path.home() / ".keras"))
    cache = home / "datasets"
    before = set(cache.glob(f"{name}*"))
    try:
        (x_train, y_train), (x_test, y_test) = load()
    except Exception as error:  # Keras raises a bare Exception for a failed download
        for path in set(cache.glob(f"{name}*")) - before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise OSError(
            f"Could not fetch {name.upper()} into {cache}: {error}. It needs the "
            f"network once; if {cache}/{name}* exists, it is damaged: delete it and "
            "try again. Offline, `load_cifar10_mini()` is bundled."
        ) from error
    y_train, y_test = y_train.ravel().astype("int64"), y_test.ravel().astype("int64")
    train, test = (x_train, y_train), (x_test, y_test)
    if classes is None:
        return train, test
    return select_classes(*train, classes), select_classes(*test, classes)
