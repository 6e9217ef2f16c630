"""The benchmarks run, and their files hold what the page reads; no time is asserted."""

import importlib
import io
import json
import math
import re
from contextlib import redirect_stdout
from types import SimpleNamespace

import nbformat
import pytest

from execute import BOOK, ROOT, convert
from stored_results import PATH, find_leaves

NAMES = ("linear_probe", "feature_extraction", "training_speed", "onednn")
STORED = ROOT / "benchmarks" / "results"
PAGE = BOOK / "faq" / "slow_training.md"
RESULTS = re.compile(r"\b(recipes|ways|remedies|switched|spent)\b")
RESULTS_IN_PAGE = '"../../benchmarks/results"'
SUMMARY_KEYS = set(
    "labels_a_class seeds fit_seconds fit_seconds_after_2_epochs once_seconds "
    "once_extraction_seconds ratio ratio_after_2_epochs fit_accuracy "
    "fit_after_2_epochs_accuracy once_accuracy low high interval_over".split()
)
RECIPE_KEYS = SUMMARY_KEYS - {"seeds", "low", "high", "interval_over"}
WAY_KEYS = set(
    "backbone way rounds pictures_per_second speed_ratio slowest_round fastest_round "
    "cpu_ratio gflops peak_gflops peak_share difference eligible".split()
)
REMEDY_KEYS = set(
    "group way rounds speed_ratio slowest_round fastest_round cpu_ratio result".split()
)
REPORT_KEYS = {"benchmark", "date", "machine", "settings", "rows"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The folder of both files, made with tiny sizes, and what was printed."""
    folder, printed = tmp_path_factory.mktemp("results"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        for name in NAMES:
            with redirect_stdout(io.StringIO()) as output:
                path = folder / f"{name}.json"
                importlib.import_module(name).main(["--quick", "--output", str(path)])
            printed[name] = output.getvalue()
    return folder, printed


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def find_cells(notebook):
    """The cells that read the results."""
    found = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [cell for cell in found if RESULTS.search(cell.source)]


def run_page(folder):
    """Run the cells of the page that read the results; return what they print."""
    printed, names = io.StringIO(), {}
    for cell in find_cells(convert(PAGE)):
        lines = cell.source.replace(RESULTS_IN_PAGE, repr(str(folder)))
        with redirect_stdout(printed):
            exec(only_about_results(lines), names)
    return printed.getvalue()


def only_about_results(source):
    """Of the last cell, leave out the claims about what other cells measured."""
    lines = source.splitlines()
    if not lines[0].startswith("assert"):
        return source
    first = next(i for i, line in enumerate(lines) if "recipes" in line)
    return "\n".join(lines[first:])


def check_keys(folder):
    probe, extraction, training, switch = (read(folder, name) for name in NAMES)
    assert set(training) == set(extraction) == set(switch) == REPORT_KEYS
    assert set(probe) == REPORT_KEYS | {"summary"}
    assert all(set(row) == SUMMARY_KEYS for row in probe["summary"])
    pictures = {"fit_pictures", "once_pictures"}
    assert all(set(row) == RECIPE_KEYS | {"seed"} | pictures for row in probe["rows"])
    assert all(set(row) == WAY_KEYS for row in extraction["rows"])
    for row in training["rows"] + switch["rows"]:
        assert set(row) == REMEDY_KEYS
    for content in (probe, extraction, training, switch):
        numbers = [x for x in find_leaves(content) if isinstance(x, (int, float))]
        assert numbers and all(map(math.isfinite, numbers))


def test_a_quick_run_writes_the_documented_keys_and_finite_numbers(results):
    check_keys(results[0])


def test_a_quick_run_leaves_no_other_file(results):
    assert {path.stem for path in results[0].iterdir()} == set(NAMES)


def test_a_quick_run_prints_a_line_for_each_row(results):
    folder, printed = results
    for name, table in zip(NAMES, ("summary", "rows", "rows", "rows"), strict=True):
        assert len(read(folder, name)[table]) + 2 <= len(printed[name].splitlines())


def test_both_recipes_saw_the_same_pictures(results):
    for folder in (results[0], STORED):
        rows = read(folder, "linear_probe")["rows"]
        assert all(row["fit_pictures"] == row["once_pictures"] for row in rows)
        # but another draw, or another size, is another set
        assert len({row["fit_pictures"] for row in rows}) == len(rows)


def test_a_way_is_eligible_when_its_features_are_those_of_the_default(results):
    for folder in (results[0], STORED):
        for row in read(folder, "feature_extraction")["rows"]:
            assert row["eligible"] == (row["difference"] <= 1e-4)


def test_the_stored_results_have_the_keys_of_a_fresh_run():
    check_keys(STORED)
    assert not any(read(STORED, name)["settings"]["quick"] for name in NAMES)


def test_the_stored_results_name_no_path():
    for name in NAMES:
        leaves = find_leaves(read(STORED, name))
        assert not [x for x in leaves if isinstance(x, str) and PATH.search(x)]


def test_the_page_reads_the_stored_results():
    printed = run_page(STORED)
    for row in read(STORED, "onednn")["rows"]:
        assert row["group"] in printed
    for name in ("feature_extraction", "training_speed"):
        for row in read(STORED, name)["rows"]:
            assert row["way"] in printed


def test_the_stored_page_was_run_after_the_stored_results():
    stored = find_cells(nbformat.read(PAGE.with_suffix(".ipynb"), as_version=4))
    shown = "".join(out.get("text", "") for cell in stored for out in cell.outputs)
    assert shown == run_page(STORED)


def test_the_page_says_how_to_get_results_that_are_not_there(tmp_path):
    assert "make benchmark" in run_page(tmp_path)


def test_each_process_has_the_switch_that_its_row_is_named_after(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    onednn = importlib.import_module("onednn")
    asked = []

    def start(command, *, env, **pipes):
        asked.append(env[onednn.SWITCH])
        answer = json.dumps({"took": [3 - len(asked), 1], "result": 0.5}) + "\n"
        output = SimpleNamespace(readline=lambda: answer)
        pipe = SimpleNamespace(write=str, flush=str)
        return SimpleNamespace(stdin=pipe, stdout=output, communicate=str)

    monkeypatch.setattr("subprocess.Popen", start)
    off, on = onednn.measure(onednn.QUICK)
    assert asked == ["0", "1"] and off["way"] == "oneDNN off"
    assert off["speed_ratio"] == 1 and on["speed_ratio"] == 2  # two seconds, then one
