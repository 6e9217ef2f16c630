"""The table of contents, the links and the reference."""

import re

import pytest
import yaml

import transfer_tutorial
from execute import BOOK, ROOT, find_sources

SOURCES = set(find_sources())
PAGES = sorted(BOOK.rglob("*.md"))
LINK = re.compile(r"\]\(([^()\s]+)\)")


def find_toc_files():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter for part in toc["parts"] for chapter in part["chapters"]]
    names = [toc["root"], *(chapter["file"] for chapter in chapters)]
    return [ROOT / (n if n.endswith(".ipynb") else f"{n}.md") for n in names]


def name_page(path):
    return path.relative_to(BOOK).as_posix()


def test_the_table_of_contents_lists_every_page_once():
    listed = sorted(map(name_page, find_toc_files()))
    written = [p.with_suffix(".ipynb") if p in SOURCES else p for p in PAGES]
    assert listed == sorted(map(name_page, written))


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_relative_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.M)
    text = re.sub(r"`[^`\n]*`", "", text)
    for link in LINK.findall(text):
        target = link.partition("#")[0]
        if not target or re.match(r"\w+:", target):
            continue
        path = (page.parent / target).resolve()
        assert path.is_file(), f"{link} leads nowhere"
        assert path not in SOURCES, f"{link}: link to the .ipynb, which readers open"


def test_the_reference_shows_every_module_in_the_order_of_the_package():
    shown = re.findall(
        r"^\.\. automodule:: transfer_tutorial\.(\w+)\n   :members:$",
        (BOOK / "reference.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    described = re.findall(r"^- `(\w+)`:", transfer_tutorial.__doc__, re.MULTILINE)
    assert shown == described


def test_the_package_describes_every_module():
    folder = ROOT / "transfer_tutorial"
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    modules |= {path.parent.name for path in folder.glob("*/__init__.py")}
    described = re.findall(r"^- `(\w+)`:", transfer_tutorial.__doc__, re.MULTILINE)
    assert modules == set(described)


def read_level(source):
    return re.search(r"^\*\*Level:\*\* (.*)\.$", source.read_text("utf-8"), re.M)[1]


@pytest.mark.parametrize("source", sorted(SOURCES), ids=name_page)
def test_the_index_shows_the_level_of_every_chapter(source):
    level = read_level(source)
    assert level in ("first steps", "intermediate", "advanced")
    page = source.with_suffix(".ipynb").relative_to(BOOK).as_posix()
    index = (BOOK / "index.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| \[[^]]*\]\({page}\) \|.*$", index, re.M)
    assert row.endswith(f"| {level} |")


@pytest.mark.parametrize("source", sorted(SOURCES), ids=name_page)
def test_chapters_begin_in_one_way(source):
    text = source.read_text(encoding="utf-8")
    parts = ["\n# ", "\n**The claim", "\n**What you will learn**\n", "\n**Level:** "]
    places = [text.find(part) for part in [*parts, "\n**Time and data:** "]]
    assert places == sorted(places) and places[0] >= 0
