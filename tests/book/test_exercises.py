"""Every exercise of the book: its check refuses the start and accepts the solution."""

import contextlib
import io
import re

import pytest

from execute import BOOK, find_sources
from transfer_tutorial import exercises

SECTION = re.compile(r"^## Exercises\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CHECK = re.compile(r"^print\(exercises\.(check_\w+)\((\w+)\)\)$", re.MULTILINE)


def find_exercises():
    """(page, text) of every exercise."""
    for source in find_sources():
        page = source.relative_to(BOOK).as_posix()
        found = SECTION.search(source.read_text(encoding="utf-8"))
        parts = re.split(r"^\*\*(\d+)\.\*\* ", found[1], flags=re.MULTILINE)[1:]
        for number, text in zip(parts[::2], parts[1::2], strict=True):
            yield pytest.param(page, text, id=f"{page} {number}")


EXERCISES = list(find_exercises())


def run(*sources):
    """What the sources print, in one namespace that has nothing but what they make."""
    namespace, said = {}, io.StringIO()
    with contextlib.redirect_stdout(said):
        for source in sources:
            exec(source, namespace)
    return said.getvalue()


@pytest.mark.parametrize("source", find_sources(), ids=lambda path: path.stem)
def test_every_notebook_has_an_exercise(source):
    page = source.relative_to(BOOK).as_posix()
    assert [p for p in EXERCISES if p.values[0] == page]


@pytest.mark.parametrize(("page", "text"), EXERCISES)
def test_the_start_of_an_exercise_is_not_its_solution(page, text):
    start, *_ = CODE.findall(text.partition("<details>")[0])
    assert run(start).startswith("Not yet: ")


@pytest.mark.parametrize(("page", "text"), EXERCISES)
def test_the_solution_of_an_exercise_passes_its_check(page, text):
    question, _, folded = text.partition("<details>")
    start, *_ = CODE.findall(question)
    solution, *_ = CODE.findall(folded)
    check = CHECK.search(start)
    assert check, "the start must end with print(exercises.check_…(…))"
    assert run(start[: check.start()], solution, check[0]).startswith("Right. ")


def test_every_check_belongs_to_an_exercise():
    asked = {CHECK.search(p.values[1])[1] for p in EXERCISES}
    assert asked == {name for name in exercises.__all__ if name.startswith("check_")}


@pytest.mark.parametrize(("page", "text"), EXERCISES)
def test_a_check_names_the_page_of_its_exercise(page, text):
    check = getattr(exercises, CHECK.search(text)[1])
    assert f"`{page.removesuffix('.md')}`" in check.__doc__
