"""Let nbval run every notebook without a network, and without importing all anew.

One notebook needs CIFAR-10 and CIFAR-100, which are not bundled: its kernel finds
small archives in the real format in a temporary Keras cache.
"""

import contextlib
import functools
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from forked_kernels import KernelServer
from kernel_variables import KERNEL_VARIABLES
from small_archives import offline_environment, write_small_cifar

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
    config.kernel_server = None


@functools.cache
def read_processor_seconds():
    """What each notebook took when last measured, such as `{"code/lora": 9.0}`."""
    rows = json.loads(MEASURED.read_text(encoding="utf-8"))["rows"]
    return {row["notebook"]: row["processor_seconds"] for row in rows}


def find_place(path):
    """Before all notebooks the tests, then what took longest; what was never measured
    may be long, too."""
    if path.suffix != ".ipynb":
        return -float("inf")
    name = path.relative_to(BOOK).with_suffix("").as_posix()
    return -read_processor_seconds().get(name, 1e9)


def pytest_collection_modifyitems(items):
    # Long notebooks first, or a worker may be left alone with one at the end. The sort
    # is stable: the cells of a notebook stay together and in order, and so do tests.
    items.sort(key=lambda item: find_place(item.path))


def pytest_unconfigure(config):
    if config.kernel_server is not None:
        config.kernel_server.close()
    shutil.rmtree(config.sandbox, ignore_errors=True)


def make_environment(sandbox, name):
    """Variables for the kernel of the notebook `name`, with the archives if it needs
    them."""
    home = sandbox / ("cifar" if name == NEEDS_CIFAR else "empty")
    found = {**offline_environment(home), **KERNEL_VARIABLES}
    if name == NEEDS_CIFAR:
        found["IPYTHONDIR"] = str(sandbox / "ipython")
        if not home.exists():
            write_small_cifar(home, images_per_class=20)
            (sandbox / STARTUP).mkdir(parents=True)
            (sandbox / STARTUP / "accept.py").write_text(ACCEPT)
    return found


def share_imports(config):
    """Let the kernels that are started meanwhile be forks of one process. To fork after
    these imports is safe on Linux only."""
    if sys.platform != "linux":
        return contextlib.nullcontext()
    if config.kernel_server is None:
        config.kernel_server = KernelServer(dict(os.environ))
    return config.kernel_server.at_work()


# Around nbval, which starts a kernel here: it inherits these variables. They are taken
# back, since the worker may have tests to run, which want others.
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item):
    environment = make_environment(item.config.sandbox, item.path.name)
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, environment))
        # Keras looks for its folder when it is imported.
        if item.path.suffix == ".ipynb" and item.path.name != NEEDS_CIFAR:
            stack.enter_context(share_imports(item.config))
        return (yield)
