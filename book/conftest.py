"""Let nbval run every notebook without a network.

One notebook needs CIFAR-10 and CIFAR-100, which are not bundled: its kernel finds
small archives in the real format in a temporary Keras cache.
"""

import functools
import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from small_archives import offline_environment, write_small_cifar
from threads import ONE_THREAD

NEEDS_CIFAR = "cifar10_to_cifar100.ipynb"
BOOK = Path(__file__).resolve().parent
TESTS = BOOK.parent / "tests"
MEASURED = BOOK.parent / "benchmarks" / "results" / "notebooks.json"
# IPython runs what it finds in this folder before the first cell.
STARTUP = "ipython/profile_default/startup"
ACCEPT = f"""
import sys
sys.path.append({str(TESTS)!r})
import small_archives
small_archives.accept_small_cifar()
sys.path.pop()
del sys, small_archives
"""


def pytest_configure(config):
    config.sandbox = Path(tempfile.mkdtemp(prefix="transfer-tutorial-book-"))
    os.environ.update(offline_environment(config.sandbox / "empty"))
    os.environ.update(ONE_THREAD)


@functools.cache
def read_processor_seconds():
    """What each notebook took when last measured, such as `{"code/lora": 9.0}`."""
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    return {row["notebook"]: row["processor_seconds"] for row in rows}


def find_cost(path):
    """Its processor seconds; a notebook that was never measured may be a long one."""
    name = path.relative_to(BOOK).with_suffix("").as_posix()
    return read_processor_seconds().get(name, float("inf"))


def pytest_collection_modifyitems(items):
    # Long notebooks first, or a worker may be left alone with one at the end. The sort
    # is stable: the cells of a notebook stay together and in order.
    items.sort(key=lambda item: -find_cost(item.path))


def pytest_unconfigure(config):
    shutil.rmtree(config.sandbox, ignore_errors=True)


@pytest.hookimpl(tryfirst=True)  # before nbval starts the kernel, which inherits this
def pytest_runtest_setup(item):
    sandbox = item.config.sandbox
    if item.path.name == NEEDS_CIFAR:
        if not (sandbox / "cifar").exists():
            write_small_cifar(sandbox / "cifar", images_per_class=20)
            (sandbox / STARTUP).mkdir(parents=True)
            (sandbox / STARTUP / "accept.py").write_text(ACCEPT)
        os.environ["KERAS_HOME"] = str(sandbox / "cifar")
        os.environ["IPYTHONDIR"] = str(sandbox / "ipython")
    else:
        os.environ["KERAS_HOME"] = str(sandbox / "empty")
        os.environ.pop("IPYTHONDIR", None)
