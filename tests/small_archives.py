"""Small CIFAR archives in the real format, and a Keras that accepts them; no network.

The pictures are generated: a pattern of its own for each class, and noise.
"""

import importlib
import io
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np

# A port where nobody listens: a download fails at once instead of being tried.
CLOSED = "http://127.0.0.1:9"


def offline_environment(keras_home):
    """Environment variables for tests: quiet, without a screen, without a network."""
    return {
        "KERAS_HOME": str(keras_home),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "MPLBACKEND": "Agg",
        "PYTHONHASHSEED": "0",
        **dict.fromkeys(["http_proxy", "https_proxy", "ftp_proxy"], CLOSED),
        **dict.fromkeys(["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY"], CLOSED),
    }


def write_small_cifar(keras_home, *, images_per_class):
    """Put CIFAR-10 and CIFAR-100 archives where Keras looks for its downloads.

    Args:
        keras_home: Folder that `KERAS_HOME` names.
        images_per_class: Training pictures of each class; a fifth as many for testing.
    """
    num_test = max(1, images_per_class // 5)
    x, y = make_pictures(10, images_per_class, seed=0)
    x_test, y_test = make_pictures(10, num_test, seed=1)
    files = {
        f"data_batch_{i + 1}": {"data": x[i::5], "labels": y[i::5].tolist()}
        for i in range(5)
    }
    files["test_batch"] = {"data": x_test, "labels": y_test.tolist()}
    write_archive(keras_home, "cifar-10-batches-py", files)

    parts = {
        "train": make_pictures(100, images_per_class, seed=2),
        "test": make_pictures(100, num_test, seed=3),
    }
    files = {
        name: {
            "data": x,
            "fine_labels": y.tolist(),
            "coarse_labels": (y // 5).tolist(),
        }
        for name, (x, y) in parts.items()
    }
    write_archive(keras_home, "cifar-100-python", files)


def make_pictures(num_classes, images_per_class, *, seed):
    """Rows of 3,072 bytes (red, green, blue planes of 32x32), and shuffled labels."""
    patterns = np.random.default_rng(num_classes).integers(
        40, 216, (num_classes, 3, 4, 4)
    )
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(num_classes), images_per_class))
    x = patterns[y].repeat(8, axis=2).repeat(8, axis=3)
    x = x + rng.integers(-40, 40, x.shape)
    return x.astype("uint8").reshape(len(x), 3072), y


def write_archive(keras_home, folder, files):
    """A tar.gz of pickled dictionaries, their keys bytes as Python 2 wrote them."""
    cache = Path(keras_home) / "datasets"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{folder}-target_archive"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            content = {key.encode(): value for key, value in content.items()}
            pickled = pickle.dumps(content, protocol=3)
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(pickled)
            archive.addfile(member, io.BytesIO(pickled))
    shutil.copy(path, cache / f"{folder}.tar.gz")  # its name in an older Keras


def accept_small_cifar(set_attribute=setattr):
    """Make `keras.datasets` read archives other than the originals.

    Keras refuses a file with another SHA-256, so the check is dropped. Its CIFAR-10
    reader insists on five batches of 10,000 rows, so shorter ones are filled up with
    rows of label 255, which are taken out again at the end. The rest is Keras' own.

    Args:
        set_attribute: `monkeypatch.setattr` to have all this undone after a test.
    """
    cifar10 = importlib.import_module("keras.src.datasets.cifar10")
    cifar100 = importlib.import_module("keras.src.datasets.cifar100")
    get_file, load_batch = cifar10.get_file, cifar10.load_batch
    load_data = cifar10.load_data

    def get_file_without_check(*args, file_hash=None, **kwargs):
        return get_file(*args, **kwargs)

    def load_filled_batch(path):
        x, y = load_batch(path)
        missing = 10_000 - len(x)
        x = np.concatenate([x, np.zeros((missing, 3, 32, 32), x.dtype)])
        return x, np.concatenate([y, np.full(missing, 255)])

    def load_data_without_filling():
        return tuple((x[y[:, 0] != 255], y[y[:, 0] != 255]) for x, y in load_data())

    set_attribute(cifar10, "get_file", get_file_without_check)
    set_attribute(cifar100, "get_file", get_file_without_check)
    set_attribute(cifar10, "load_batch", load_filled_batch)
    public = importlib.import_module("keras.datasets.cifar10")
    set_attribute(public, "load_data", load_data_without_filling)
