"""How `make test` runs notebooks: in which order, and with which environment."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyter_client.provisioning import local_provisioner

from forked_kernels import KernelServer

BOOK = Path(__file__).resolve().parents[2] / "book"


@pytest.fixture(scope="module")
def conftest():
    spec = importlib.util.spec_from_file_location("of_book", BOOK / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tests_come_before_notebooks_and_long_notebooks_before_short(conftest):
    measured = conftest.read_processor_seconds()
    longest, shortest = (choose(measured, key=measured.get) for choose in (max, min))
    names = [shortest, "code/never_measured", longest]
    paths = [BOOK / f"{name}.ipynb" for name in names] + [
        BOOK.parent / "tests/test_x.py"
    ]
    found = [path.stem for path in sorted(paths, key=conftest.find_place)]
    assert found == [
        "test_x",
        "never_measured",
        Path(longest).name,
        Path(shortest).name,
    ]


def test_only_the_notebook_that_needs_them_gets_the_archives(conftest, tmp_path):
    usual = conftest.make_environment(tmp_path, "lora.ipynb")
    assert "IPYTHONDIR" not in usual and not (tmp_path / "cifar").exists()
    for _ in range(2):  # the second time they are there
        found = conftest.make_environment(tmp_path, conftest.NEEDS_CIFAR)
        assert Path(found["KERAS_HOME"], "datasets").is_dir()
        assert Path(found["IPYTHONDIR"], "profile_default/startup/accept.py").is_file()
    assert usual["KERAS_HOME"] != found["KERAS_HOME"]
    for environment in (usual, found):
        assert environment["TF_NUM_INTEROP_THREADS"] == environment["OMP_NUM_THREADS"]
        assert environment["OMP_NUM_THREADS"] == "1" and environment["https_proxy"]


@pytest.mark.parametrize(
    ("path", "forked"),
    [
        (BOOK / "code/lora.ipynb", sys.platform == "linux"),
        (BOOK / "code/cifar10_to_cifar100.ipynb", False),  # imports Keras its own way
        (BOOK.parent / "tests/test_lora.py", False),
    ],
    ids=["notebook", "archives", "test"],
)
def test_what_a_kernel_gets_is_taken_back_from_the_tests(
    conftest, tmp_path, monkeypatch, path, forked
):
    monkeypatch.delenv("TF_NUM_INTEROP_THREADS", raising=False)
    usual = local_provisioner.launch_kernel
    server = object.__new__(KernelServer)  # which starts no process
    server.launch = object()
    config = SimpleNamespace(sandbox=tmp_path, kernel_server=server)
    during = conftest.pytest_runtest_setup(SimpleNamespace(path=path, config=config))
    next(during)
    assert conftest.os.environ["TF_NUM_INTEROP_THREADS"] == "1"
    launches = local_provisioner.launch_kernel
    assert launches is (server.launch if forked else usual)
    with pytest.raises(StopIteration):
        next(during)
    assert "TF_NUM_INTEROP_THREADS" not in conftest.os.environ
    assert local_provisioner.launch_kernel is usual
