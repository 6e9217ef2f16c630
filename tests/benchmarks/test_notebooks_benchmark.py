"""The table of the notebooks' times: what is counted as what; no time is asserted."""

import importlib
import json
import sys

import nbformat
import pytest

from execute import BOOK, ROOT
from stored_results import PATH, find_leaves

STORED = ROOT / "benchmarks" / "results" / "notebooks.json"
CELLS = """
import keras, numpy as np
from sklearn.linear_model import LogisticRegression
x, y = np.eye(4), np.arange(4)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, "softmax")])
model.compile("sgd", "sparse_categorical_crossentropy")
model.fit(x, y, verbose=0)
"""
PARTS = ("training", "predicting", "probing", "rest")


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """What is measured of a notebook that trains, and neither predicts nor probes."""
    folder = tmp_path_factory.mktemp("book")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELLS)])
    nbformat.write(notebook, folder / "small.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("notebooks").run("small", folder)


def test_what_was_not_done_took_no_time(row):
    assert row["training"] > 0 and row["importing"] > 0
    assert row["predicting"] == row["probing"] == 0


def test_the_parts_add_up_to_the_whole(row):
    assert sum(row[part] for part in PARTS) == pytest.approx(row["processor_seconds"])
    assert row["rest"] >= row["importing"]


def test_measuring_one_notebook_keeps_the_other_rows(row, tmp_path, monkeypatch):
    notebooks = sys.modules["notebooks"]
    monkeypatch.setattr(notebooks, "run", lambda name: row | {"notebook": name})
    path = tmp_path / "notebooks.json"
    path.write_text(STORED.read_text(encoding="utf-8"), encoding="utf-8")
    notebooks.main(["code/lora", "--output", str(path)])
    before, after = (
        {r["notebook"]: r for r in json.loads(p.read_text(encoding="utf-8"))["rows"]}
        for p in (STORED, path)
    )
    assert after.pop("code/lora") == row | {"notebook": "code/lora"}
    assert after == {name: r for name, r in before.items() if name != "code/lora"}


def test_an_unknown_notebook_is_named_and_nothing_is_written(row, tmp_path, capsys):
    with pytest.raises(SystemExit):
        sys.modules["notebooks"].main(["code/lore", "--output", str(tmp_path / "x")])
    assert "code/lore" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_stored_table_has_every_notebook_with_bundled_data(row):
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert all(set(r) == set(row) for r in stored["rows"])
    names = {
        p.relative_to(BOOK).with_suffix("").as_posix() for p in BOOK.rglob("*.ipynb")
    }
    assert {r["notebook"] for r in stored["rows"]} == names - {
        "code/cifar10_to_cifar100"
    }
    assert not stored["settings"]["quick"]
    leaves = [x for x in find_leaves(stored) if isinstance(x, str)]
    assert not [x for x in leaves if x not in names and PATH.search(x)]
