import csv
import gzip
import shutil
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest
from scipy import stats
from sklearn.datasets import load_digits

from transfer_tutorial import datasets
from transfer_tutorial.datasets import (
    CIFAR10_CLASSES,
    SOURCE_CLASSES,
    TARGET_CLASSES,
    fetch_cifar10,
    fetch_cifar100,
    load_cifar10_mini,
    load_digits_8x8,
    load_japanese_vowels,
    load_mnist_mini,
    load_sentiment,
    select_classes,
)

DOMAINS = ("movies", "products", "editorials", "tweets")
IMAGE_SETS = {
    load_cifar10_mini: ((3000, 32, 32, 3), (1000, 32, 32, 3)),
    load_mnist_mini: ((4000, 28, 28, 1), (1000, 28, 28, 1)),
    load_digits_8x8: ((1347, 8, 8, 1), (450, 8, 8, 1)),
}
BUNDLED = [
    *IMAGE_SETS,
    load_japanese_vowels,
    *[pytest.param(lambda d=d: load_sentiment(d), id=d) for d in DOMAINS],
]


@pytest.mark.parametrize("load", BUNDLED)
def test_every_set_answers_with_two_pairs_of_equally_long_arrays(load):
    train, test = load()
    for x, y in (train, test):
        assert isinstance(x, np.ndarray) and len(x) == len(y)
        assert y.dtype == "int64" and y.ndim == 1
    labels = np.unique(train[1])
    assert labels.tolist() == list(range(len(labels)))  # 0, 1, 2... without a gap
    assert set(test[1]) == set(labels)


@pytest.mark.parametrize("load", BUNDLED)
def test_no_test_row_is_among_the_training_rows(load):
    (x_train, _), (x_test, _) = load()
    assert not {row.tobytes() for row in x_train} & {row.tobytes() for row in x_test}


@pytest.mark.parametrize("load", [*IMAGE_SETS, load_japanese_vowels])
def test_labels_belong_to_their_rows(load):
    (x_train, y_train), (x_test, y_test) = load()
    train, test = (x.reshape(len(x), -1).astype(float) for x in (x_train, x_test))
    centroids = [train[y_train == label].mean(axis=0) for label in np.unique(y_train)]
    y_pred = np.argmin([np.linalg.norm(test - c, axis=1) for c in centroids], axis=0)
    right = np.sum(y_pred == y_test)
    # With shuffled labels, at most the share of the largest class would be right.
    share = np.bincount(y_test).max() / len(y_test)
    assert stats.binom.sf(right, len(y_test), share) < 1e-9


@pytest.mark.parametrize("load", IMAGE_SETS)
def test_images_are_bytes_that_use_the_whole_range(load):
    (x_train, y_train), (x_test, _) = load()
    assert (x_train.shape, x_test.shape) == IMAGE_SETS[load]
    assert x_train.dtype == x_test.dtype == "uint8"
    assert (x_train.min(), x_train.max()) == (0, 255)
    assert len(np.unique(y_train)) == 10


@pytest.mark.parametrize(
    ("load", "train_size", "test_size"),
    [(load_cifar10_mini, 300, 100), (load_mnist_mini, 400, 100)],
)
def test_samples_are_balanced(load, train_size, test_size):
    (_, y_train), (_, y_test) = load()
    assert np.bincount(y_train).tolist() == [train_size] * 10
    assert np.bincount(y_test).tolist() == [test_size] * 10


def test_cifar10_keeps_the_order_of_the_original():
    (_, y_train), (_, y_test) = load_cifar10_mini()
    assert y_test[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    assert y_train[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]


def test_cifar10_classes_are_divided_into_source_and_target():
    assert len(CIFAR10_CLASSES) == 10
    assert [CIFAR10_CLASSES[label] for label in (3, 8, 0)] == [
        "cat",
        "ship",
        "airplane",
    ]
    assert sorted(SOURCE_CLASSES + TARGET_CLASSES) == sorted(CIFAR10_CLASSES)


@pytest.mark.parametrize("load", [load_mnist_mini, load_digits_8x8])
def test_digits_are_ink_on_empty_paper(load):
    x = load()[0][0]
    assert np.mean(x == 0) > 0.4 > np.mean(x > 200)


def test_digits_are_those_of_scikit_learn_stretched_to_bytes():
    (x_train, y_train), (x_test, y_test) = load_digits_8x8()
    original = load_digits()
    x = np.concatenate([x_train, x_test])[..., 0]
    np.testing.assert_array_equal(np.round(x / 255 * 16), original.images)
    np.testing.assert_array_equal(np.concatenate([y_train, y_test]), original.target)


def test_vowels_are_divided_as_their_authors_divided_them():
    (x_train, y_train), (x_test, y_test) = load_japanese_vowels()
    assert x_train.shape == (270, 29, 12) and x_test.shape == (370, 29, 12)
    assert x_train.dtype == x_test.dtype == "float32"
    assert np.bincount(y_train).tolist() == [30] * 9
    # Blocks a speaker in `ae.test`, from the description of the UCI repository.
    expected = [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert np.bincount(y_test).tolist() == expected


def test_vowels_last_7_to_29_steps_and_are_zero_after_their_end():
    x = np.concatenate([part[0] for part in load_japanese_vowels()])
    sounding = np.any(x != 0, axis=2)
    lengths = sounding.sum(axis=1)
    assert (lengths.min(), lengths.max()) == (7, 29)
    np.testing.assert_array_equal(sounding, np.arange(29) < lengths[:, np.newaxis])


def read_sentiment():
    path = Path(datasets.__file__).parent / "data" / "sentiment.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("domain", DOMAINS)
def test_no_document_has_snippets_in_training_and_test_set(domain):
    rows = read_sentiment()
    document_of = {r["text"]: r["document"] for r in rows if r["domain"] == domain}
    (x_train, _), (x_test, _) = load_sentiment(domain)
    documents = [{document_of[text] for text in x} for x in (x_train, x_test)]
    assert documents[0] and documents[1]
    assert not documents[0] & documents[1]


@pytest.mark.parametrize("domain", DOMAINS)
def test_label_is_the_sign_of_the_rating(domain):
    rating_of = {
        row["text"]: float(row["valence"])
        for row in read_sentiment()
        if row["domain"] == domain
    }
    for x, y in load_sentiment(domain):
        assert all(
            (rating_of[text] > 0) == label for text, label in zip(x, y, strict=True)
        )
    sizes = [len(x) for x, _ in load_sentiment(domain)]
    assert sum(sizes) == sum(rating != 0 for rating in rating_of.values())


def test_texts_keep_their_quotation_marks_and_their_order():
    (x_train, y_train), (x_test, y_test) = load_sentiment("movies")
    assert x_train[0].startswith("The Rock is destined to be the 21st Century's new ''")
    assert y_train[0] == 1
    assert x_test[0] == "Effective but too tepid biopic" and y_test[0] == 0


BUNDLED_FILES = {
    "cifar10_mini.npz": load_cifar10_mini,
    "mnist_mini.npz": load_mnist_mini,
    "japanese_vowels.npz": load_japanese_vowels,
    "sentiment.csv.gz": lambda: load_sentiment("tweets"),
}


@pytest.fixture
def bundled_copy(tmp_path, monkeypatch):
    """Let the package read a copy of its data that a test may damage."""
    for path in datasets._DATA.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(datasets, "_DATA", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_missing_bundled_file_is_named_with_a_way_out(bundled_copy, name):
    BUNDLED_FILES[name]()  # the copy works
    (bundled_copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is missing.*build_data.py"):
        BUNDLED_FILES[name]()


@pytest.mark.parametrize("name", BUNDLED_FILES)
def test_bundled_file_with_one_wrong_bit_is_named_with_a_way_out(bundled_copy, name):
    content = bytearray((bundled_copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundled_copy / name).write_bytes(content)
    with pytest.raises(OSError, match=f"{name} is damaged.*build_data.py"):
        BUNDLED_FILES[name]()


def test_missing_checksums_are_named_with_a_way_out(bundled_copy):
    (bundled_copy / "SHA256SUMS").unlink()
    with pytest.raises(FileNotFoundError, match="SHA256SUMS is missing.*build_data.py"):
        load_mnist_mini()


def test_selected_classes_are_renumbered_in_the_order_asked_for():
    y = np.array([5, 3, 7, 3, 5])
    x, labels = select_classes(y * 10, y, [5, 3])
    assert x.tolist() == [50, 30, 30, 50]
    assert labels.tolist() == [0, 1, 1, 0] and labels.dtype == "int64"


def test_selected_classes_of_images_are_those_of_the_label():
    (x_train, y_train), _ = load_cifar10_mini()
    target = [CIFAR10_CLASSES.index(name) for name in TARGET_CLASSES]
    x, y = select_classes(x_train, y_train, target)
    assert x.shape == (1200, 32, 32, 3)
    for new, old in enumerate(target):
        np.testing.assert_array_equal(x[y == new], x_train[y_train == old])


FETCHES = {
    "cifar10": (fetch_cifar10, keras.datasets.cifar10.load_data),
    "cifar100-fine": (fetch_cifar100, keras.datasets.cifar100.load_data),
    "cifar100-coarse": (
        lambda **options: fetch_cifar100(label_mode="coarse", **options),
        lambda: keras.datasets.cifar100.load_data("coarse"),
    ),
}


@pytest.fixture(params=FETCHES)
def fetch(request):
    return FETCHES[request.param][0]


@pytest.mark.parametrize("name", FETCHES)
def test_fetched_arrays_are_those_of_keras_with_flat_labels(small_cifar, name):
    fetch, load = FETCHES[name]
    if name == "cifar10":
        load = keras.datasets.cifar10.load_data  # as `small_cifar` has it
    for (x, y), (expected_x, expected_y) in zip(fetch(), load(), strict=True):
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y[:, 0])
        assert x.dtype == "uint8" and y.dtype == "int64"


def test_coarse_labels_group_the_fine_ones(small_cifar):
    (_, fine), _ = fetch_cifar100()
    (_, coarse), _ = fetch_cifar100(label_mode="coarse")
    assert np.bincount(fine).tolist() == [10] * 100
    np.testing.assert_array_equal(coarse, fine // 5)  # as the small archive has it


@pytest.mark.parametrize("make", [list, np.array], ids=["list", "array"])
def test_fetched_classes_can_be_selected(small_cifar, fetch, make):
    whole, part = fetch(), fetch(classes=make([8, 3]))
    for (x, y), (selected_x, selected_y) in zip(whole, part, strict=True):
        expected_x, expected_y = select_classes(x, y, [8, 3])
        np.testing.assert_array_equal(selected_x, expected_x)
        np.testing.assert_array_equal(selected_y, expected_y)


def test_fetching_offline_names_the_folder_and_leaves_nothing_behind(
    keras_cache, fetch
):
    with pytest.raises(OSError, match=f"Could not fetch CIFAR-.* into {keras_cache}"):
        fetch()
    assert not list(keras_cache.iterdir())


def test_fetching_offline_names_the_bundled_way_out(keras_cache):
    with pytest.raises(OSError, match=r"Offline, `load_cifar10_mini\(\)` is bundled"):
        fetch_cifar10()


def write_half(url, path, progress):
    """A download that breaks off."""
    Path(path).write_bytes(b"half")
    raise urllib.error.ContentTooShortError("got 4 of 170498071 bytes", None)


def write_rubbish(url, path, progress):
    """A download that delivers something else, such as a page of an hotel's network."""
    Path(path).write_bytes(b"<html>Please log in</html>")


@pytest.mark.parametrize("download", [write_half, write_rubbish])
def test_failed_download_leaves_nothing_half_written(
    keras_cache, monkeypatch, fetch, download
):
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", download)
    with pytest.raises(OSError, match="Could not fetch"):
        fetch()
    assert not list(keras_cache.iterdir())


def test_failed_download_leaves_the_files_of_others_alone(keras_cache, fetch):
    mine = [keras_cache / "cifar-10-notes.txt", keras_cache / "cifar-100-notes.txt"]
    for path in mine:
        path.write_text("mine")
    with pytest.raises(OSError, match="Could not fetch"):
        fetch()
    assert sorted(keras_cache.iterdir()) == sorted(mine)


def test_damaged_archive_is_not_used(small_cifar, keras_cache, fetch):
    for archive in keras_cache.iterdir():
        archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(OSError, match="it is damaged: delete it and try again"):
        fetch()
    assert not [path for path in keras_cache.iterdir() if path.is_dir()]


X, Y = np.zeros((4, 2)), np.array([0, 1, 2, 2])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_sentiment("books"), "`domain` must be one of .*: 'books'"),
        (
            lambda: select_classes(X[:3], Y, [0, 1]),
            r"`x` and `y` .* Received: len\(x\)=3, len\(y\)=4",
        ),
        (lambda: select_classes(X, Y, [2]), r"`classes` .* Received: classes=\[2\]"),
        (lambda: select_classes(X, Y, [2, 2]), r"`classes` .* classes=\[2, 2\]"),
        (
            lambda: select_classes(X, Y, [2, 7]),
            r"`classes` .* classes=\[2, 7\], of which absent: \[7\]",
        ),
        (
            lambda: fetch_cifar10(classes=[0, 10]),
            r"`classes` must be labels in 0\.\.\.9\. Received: \[10\]",
        ),
        (
            lambda: fetch_cifar100(classes=[-1, 99, 100]),
            r"`classes` must be labels in 0\.\.\.99\. Received: \[-1, 100\]",
        ),
        (
            lambda: fetch_cifar100(label_mode="coarse", classes=[20]),
            r"`classes` must be labels in 0\.\.\.19\. Received: \[20\]",
        ),
        (
            lambda: fetch_cifar100(label_mode="medium"),
            "`label_mode` must be .* Received: 'medium'",
        ),
    ],
)
def test_bad_input_names_the_argument_and_what_was_received(keras_cache, call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert not list(keras_cache.iterdir())  # nothing was fetched before
