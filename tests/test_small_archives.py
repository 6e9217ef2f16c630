import keras
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("load", "num_classes"),
    [
        (keras.datasets.cifar10.load_data, 10),
        (lambda: keras.datasets.cifar100.load_data("fine"), 100),
        (lambda: keras.datasets.cifar100.load_data("coarse"), 20),
    ],
    ids=["cifar10", "cifar100-fine", "cifar100-coarse"],
)
def test_a_download_is_refused_at_once(keras_cache, load, num_classes):
    with pytest.raises(Exception, match="URL fetch failure"):
        load()


def test_keras_reads_the_small_cifar10(small_cifar):
    (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
    assert x_train.shape == (100, 32, 32, 3) and x_train.dtype == "uint8"
    assert np.bincount(y_train[:, 0]).tolist() == [10] * 10
    assert x_test.shape == (20, 32, 32, 3) and y_test.shape == (20, 1)


@pytest.mark.parametrize(("label_mode", "count"), [("fine", 100), ("coarse", 20)])
def test_keras_reads_the_small_cifar100(small_cifar, label_mode, count):
    (x_train, y_train), _ = keras.datasets.cifar100.load_data(label_mode)
    assert x_train.shape == (1000, 32, 32, 3)
    assert np.bincount(y_train[:, 0]).tolist() == [1000 // count] * count
