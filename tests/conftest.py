import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from kernel_variables import KERNEL_VARIABLES
from small_archives import (
    accept_small_cifar,
    offline_environment,
    write_small_cifar,
)

# Before anything imports Keras: it reads these once.
KERAS_HOME = Path(tempfile.mkdtemp(prefix="transfer-tutorial-tests-"))
atexit.register(shutil.rmtree, KERAS_HOME, ignore_errors=True)
os.environ.update(offline_environment(KERAS_HOME))
# Tests run side by side: threads that wait for each other take the processor from the
# others. (Replicas need more than one thread *between* operations.)
os.environ.update(OMP_NUM_THREADS="1", TF_NUM_INTRAOP_THREADS="1")
# As for the notebooks: faster also where TensorFlow does not switch it on by itself.
os.environ["TF_ENABLE_ONEDNN_OPTS"] = KERNEL_VARIABLES["TF_ENABLE_ONEDNN_OPTS"]


@pytest.fixture(autouse=True)
def fresh_state():
    """Each test starts from the same seed and without open figures."""
    if "keras" in sys.modules:
        sys.modules["keras"].utils.set_random_seed(0)
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def tiny_images():
    """48 colour images of 8x8, uint8, in three classes that differ in one channel."""
    rng = np.random.default_rng(0)
    y = np.arange(48) % 3
    x = rng.integers(0, 100, (48, 8, 8, 3))
    x[np.arange(48), :, :, y] += 120
    return x.astype("uint8"), y


@pytest.fixture
def keras_cache():
    """The folder of Keras' downloads, empty."""
    folder = KERAS_HOME / "datasets"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def small_cifar(keras_cache, monkeypatch):
    """Both CIFAR archives in Keras' cache, 10 training and 2 test pictures a class."""
    write_small_cifar(keras_cache.parent, images_per_class=10)
    accept_small_cifar(monkeypatch.setattr)
