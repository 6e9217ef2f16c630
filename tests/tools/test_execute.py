import datetime

import nbformat
import pytest

from execute import describe_run, keep_date, outline, take_outputs

SOURCE = ["x = 1", "print(x)"]


def make_notebook(sources=SOURCE, *, prose="Some words.", executed=False, tags=()):
    cells = [nbformat.v4.new_markdown_cell(prose)]
    for number, source in enumerate(sources, start=1):
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})
        if executed:
            cell.execution_count = number
            cell.outputs = [nbformat.v4.new_output("stream", text=f"{number}\n")]
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells)


def test_outputs_are_kept_where_only_prose_has_changed():
    stored = make_notebook(executed=True)
    notebook = make_notebook(prose="Better words.")
    assert take_outputs(notebook, stored)
    assert notebook.cells[0].source == "Better words."
    assert [cell.outputs[0].text for cell in notebook.cells[1:]] == ["1\n", "2\n"]
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]


@pytest.mark.parametrize(
    "stored",
    [
        None,
        make_notebook(executed=False),
        make_notebook(["x = 2", "print(x)"], executed=True),
        make_notebook(["x = 1"], executed=True),
        make_notebook([*SOURCE, "x"], executed=True),
        make_notebook(SOURCE[::-1], executed=True),
        make_notebook(executed=True, tags=["wall-time"]),
    ],
    ids=["none", "not run", "changed", "fewer", "more", "other order", "other tags"],
)
def test_outputs_of_other_code_are_not_taken(stored):
    notebook = make_notebook()
    assert not take_outputs(notebook, stored)
    assert not any(cell.get("outputs") for cell in notebook.cells)


def test_a_notebook_says_when_and_with_which_versions_it_ran():
    run = describe_run()
    assert list(run)[:3] == ["date", "python", "tensorflow"]
    assert datetime.date.fromisoformat(run["date"])


def test_the_record_of_a_run_is_no_part_of_the_source():
    ran = make_notebook(executed=True)
    ran.metadata["executed"] = {"date": "2026-01-01"}
    assert outline(ran)[1] == outline(make_notebook())[1]


def test_the_record_stays_where_only_prose_has_changed():
    stored = make_notebook(executed=True)
    stored.metadata["executed"] = {"date": "2026-01-01"}
    notebook = make_notebook(prose="Better words.")
    take_outputs(notebook, stored)
    assert notebook.metadata["executed"] == {"date": "2026-01-01"}


@pytest.mark.parametrize(
    ("version", "sources", "date"),
    [
        ("1.0", SOURCE, "2026-01-01"),
        ("2.0", SOURCE, "2026-02-02"),
        ("1.0", SOURCE[::-1], "2026-02-02"),
    ],
    ids=["same", "other version", "other cells"],
)
def test_the_date_stays_only_where_versions_and_outputs_do(version, sources, date):
    stored, notebook = make_notebook(executed=True), make_notebook(sources)
    if sources == SOURCE:
        notebook.cells = stored.cells
    stored.metadata["executed"] = {"date": "2026-01-01", "keras": "1.0"}
    notebook.metadata["executed"] = {"date": "2026-02-02", "keras": version}
    keep_date(notebook, stored)
    assert notebook.metadata["executed"] == {"date": date, "keras": version}


def test_the_first_record_of_a_notebook_is_its_own():
    notebook = make_notebook(executed=True)
    notebook.metadata["executed"] = {"date": "2026-02-02"}
    keep_date(notebook, make_notebook(executed=True))
    assert notebook.metadata["executed"] == {"date": "2026-02-02"}
