"""What every notebook of the book keeps to; nothing is executed here."""

import ast
import re
from statistics import median

import pytest
import yaml

from execute import (
    BOOK,
    NOT_EXECUTED,
    README_PICTURE,
    ROOT,
    convert,
    find_code,
    find_readme_picture,
    find_sources,
    outline,
    read_stored,
)

MEDIAN_CELL_LINES = 8
MAX_CELL_LINES = 25
MAX_FUNCTION_BODY_LINES = 5
TAGS = {
    "nbval-check-output",  # the same on every machine: `make test` compares it
    "wall-time",  # seconds: `make execute` keeps what is stored
    "raises-exception",
    "readme-picture",  # `make execute` copies it to assets/learning_curves.png
    *(f"{verb}-{what}" for verb in ("hide", "remove") for what in ("input", "output")),
}
# Notebooks that do not end with "Checked claims", each with its reason.
WITHOUT_CHECKED_CLAIMS = {}

CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REPOSITORY = CONFIG["repository"]
INSTALL = f'"transfer-tutorial @ git+{REPOSITORY["url"]}@{REPOSITORY["branch"]}"'
DIRECTIVE = re.compile(r"^ *(:{3,}|`{3,}\{|\([\w-]+\)= *$|% )", re.MULTILINE)
ROLE = re.compile(r"(?<!`)\{[a-z][\w:-]*\}`")
ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")
HOME = re.compile(r"/(home|root|Users|work|tmp|private)/\w")

SOURCES = find_sources()
every_notebook = pytest.mark.parametrize(
    "source", [pytest.param(p, id=p.relative_to(BOOK).as_posix()) for p in SOURCES]
)


def read(source):
    """The stored notebook beside `source`."""
    stored = read_stored(source.with_suffix(".ipynb"))
    assert stored, f"run `make execute NOTEBOOK={source.relative_to(ROOT)}`"
    return stored


def is_run(source):
    return source.relative_to(ROOT).as_posix() not in NOT_EXECUTED


def find_python(notebook):
    """Code cells as Python: without the lines that only IPython understands."""
    for cell in find_code(notebook):
        yield re.sub(r"^( *)[%!].*", r"\1pass", cell.source, flags=re.MULTILINE)


def find_outputs(notebook):
    return [output for cell in find_code(notebook) for output in cell.outputs]


def get_tags(cell):
    return set(cell.metadata.get("tags", []))


def test_there_are_notebooks():
    assert SOURCES


def test_every_stored_notebook_has_a_source():
    stored = {p for p in BOOK.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert stored <= {source.with_suffix(".ipynb") for source in SOURCES}


@every_notebook
def test_notebook_is_in_step_with_its_source(source):
    assert outline(read(source)) == outline(convert(source)), (
        f"run `make execute NOTEBOOK={source.relative_to(ROOT)}`"
    )


@every_notebook
def test_every_cell_was_executed_in_order(source):
    counts = [c.execution_count for c in find_code(read(source))]
    if is_run(source):
        assert counts == list(range(1, len(counts) + 1))
    else:
        assert set(counts) == {None}


@every_notebook
def test_outputs_are_fit_to_print(source):
    for output in find_outputs(read(source)):
        assert output.get("name") != "stderr"
        text = output.get("text") or output.get("data", {}).get("text/plain", "")
        text += "\n".join(output.get("traceback", []))
        assert not ADDRESS.search(text), "an object without a readable form"
        assert not HOME.search(text), "a path of the machine that ran it"


@every_notebook
def test_every_picture_has_alternative_text(source):
    for cell in find_code(read(source)):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 3, f"no `alt` for the picture of:\n{cell.source}"


@every_notebook
def test_cells_are_short(source):
    cells = [cell.source.splitlines() for cell in find_code(convert(source))]
    assert max(len(lines) for lines in cells) <= MAX_CELL_LINES
    # Blank lines make a cell easier to read, so they do not count here.
    written = [sum(bool(line.strip()) for line in lines) for lines in cells]
    assert median(written) <= MEDIAN_CELL_LINES


@every_notebook
def test_functions_in_cells_are_short(source):
    for code in find_python(convert(source)):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = body[-1].end_lineno - body[0].lineno + 1
                assert length <= MAX_FUNCTION_BODY_LINES, f"{node.name}: to the package"


@every_notebook
def test_no_line_ends_with_a_semicolon(source):
    for cell in find_code(convert(source)):
        assert not re.search(r"; *$", cell.source, re.MULTILINE), cell.source


@every_notebook
def test_tags_are_known(source):
    for cell in find_code(convert(source)):
        assert get_tags(cell) <= TAGS
        assert not {"nbval-check-output", "wall-time"} <= get_tags(cell)


@every_notebook
def test_the_first_cell_installs_the_package_in_colab(source):
    first = find_code(convert(source))[0].source
    assert 'find_spec("transfer_tutorial") is None' in first
    assert re.findall(r"%pip install -q (.*)", first) == [INSTALL]


@every_notebook
def test_the_last_code_cell_checks_the_claims(source):
    if source.relative_to(BOOK).as_posix() in WITHOUT_CHECKED_CLAIMS:
        return
    cells = convert(source).cells
    last = max(i for i, cell in enumerate(cells) if cell.cell_type == "code")
    tree = ast.parse(list(find_python(convert(source)))[-1])
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree))
    above = "\n".join(cell.source for cell in cells[:last])
    headings = re.findall(r"^#+ +(.*?) *$", above, re.MULTILINE)
    assert headings[-1] == "Checked claims"


@every_notebook
def test_prose_reads_the_same_in_colab(source):
    """CommonMark and `$math$`: no directive, role or target of MyST."""
    for cell in convert(source).cells:
        if cell.cell_type == "markdown":
            assert not DIRECTIVE.search(cell.source), cell.source
            assert not ROLE.search(cell.source), cell.source


def test_the_readme_shows_a_figure_of_the_book():
    pictures = [find_readme_picture(read(source)) for source in SOURCES]
    [picture] = [picture for picture in pictures if picture]
    assert README_PICTURE.read_bytes() == picture
    name = README_PICTURE.relative_to(ROOT).as_posix()
    assert f"]({name})" in (ROOT / "README.md").read_text(encoding="utf-8")
