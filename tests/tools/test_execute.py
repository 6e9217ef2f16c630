import nbformat
import pytest

from execute import take_outputs

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
