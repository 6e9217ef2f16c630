"""The bibliography: what it says is confirmed, and what the book cites is in it."""

import ast
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
PAGE = (BOOK / "references.md").read_text(encoding="utf-8")
ENTRIES = parse_file(BOOK / "references.bib").entries
VENUES = ("journal", "booktitle", "publisher", "institution", "howpublished")
# What no source at hand confirms; printing it from memory is how errors are made.
UNCONFIRMED = {
    "pan2010survey": {"doi"},
    "yosinski2014transferable": {"pages"},
    "sun2016deep": {"volume", "series"},
    "li2018explicit": {"pages"},
    "he2019rethinking": {"pages"},
    "wang2019characterizing": {"pages"},
    "chen2020simple": {"pages"},
    "you2021logme": {"pages"},
    "ericsson2023better": {"booktitle"},
}
ENTRY_ON_PAGE = re.compile(
    r"^### (.+)\n\n```\{bibliography\}\n(?::.+\n)+\n(.+)\n```", re.M
)


def plain(text):
    """Letters, digits and single spaces, without accents, braces and capitals."""
    text = re.sub(r"\\['`^\"c] ?|[{}\\]", "", text)
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def find_surnames(entry):
    return [plain(" ".join(p.last_names)) for p in entry.persons["author"]]


def make_anchor(heading):
    """The fragment that MyST and GitHub give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def find_docstring_references():
    """(where, reference) of every `Reference:` section of the package."""
    package = ROOT / "transfer_tutorial"
    for path in sorted(package.rglob("*.py")):
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                parts = (ast.get_docstring(node) or "").split("Reference:\n")
                if len(parts) == 2:
                    section = re.split(r"\n(?=\S)", parts[1])[0]
                    yield f"{module}.{node.name}", " ".join(section.split())


@pytest.mark.parametrize("key", ENTRIES)
def test_entry_has_author_title_year_and_venue(key):
    entry = ENTRIES[key]
    assert entry.persons.get("author")
    assert plain(entry.fields["title"])
    assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"])
    assert any(plain(entry.fields.get(name, "")) for name in VENUES)


@pytest.mark.parametrize("key", ENTRIES)
def test_key_is_made_of_first_author_year_and_a_word_of_the_title(key):
    entry = ENTRIES[key]
    author, year, word = re.fullmatch(r"([a-z]+)(\d{4})([a-z]+)", key).groups()
    assert author == find_surnames(entry)[0].replace(" ", "")
    assert year == entry.fields["year"]
    assert word in plain(entry.fields["title"]).replace(" ", "")


def test_no_work_is_listed_twice():
    titles = Counter(plain(entry.fields["title"]) for entry in ENTRIES.values())
    assert not [title for title, count in titles.items() if count > 1]


@pytest.mark.parametrize(("key", "fields"), UNCONFIRMED.items())
def test_unconfirmed_fields_are_left_out(key, fields):
    assert not fields & set(ENTRIES[key].fields)


def test_every_entry_stands_on_the_page_once():
    assert Counter(key for _, key in ENTRY_ON_PAGE.findall(PAGE)) == Counter(
        list(ENTRIES)
    )


def test_anchors_on_the_page_are_unique():
    headings = re.findall(r"^#+ (.+)", PAGE, re.M)
    anchors = Counter(make_anchor(heading) for heading in headings)
    assert not [anchor for anchor, count in anchors.items() if count > 1]


@pytest.mark.parametrize(("heading", "key"), ENTRY_ON_PAGE.findall(PAGE))
def test_heading_names_authors_and_year_of_its_entry(heading, key):
    names, year = heading.rsplit(", ", 1)
    surnames = find_surnames(ENTRIES[key])
    named = [plain(n) for n in re.split(r", | and |(?: et al\.)", names) if n]
    assert year == ENTRIES[key].fields["year"]
    assert named == surnames[: len(named)]
    assert ("et al." in names) == (len(named) < len(surnames))


def test_the_articles_false_reference_is_not_in_the_bibliography():
    assert "## A reference that does not exist" in PAGE
    for entry in ENTRIES.values():
        assert not {"torrey", "zhang"} <= set(find_surnames(entry))
        assert "foundations and trends" not in plain(entry.fields.get("journal", ""))


@pytest.mark.parametrize(
    "reference",
    [pytest.param(text, id=name) for name, text in find_docstring_references()],
)
def test_what_a_docstring_cites_is_in_the_bibliography(reference):
    names, year, title = re.match(r'(.+?), (\d{4}), "(.+?)"', reference).groups()
    found = [e for e in ENTRIES.values() if plain(e.fields["title"]) == plain(title)]
    assert [entry.fields["year"] for entry in found] == [year]
    cited = [plain(name) for name in re.split(r", | and ", names)]
    assert cited == find_surnames(found[0])


def test_chapters_link_to_entries_that_exist():
    anchors = {make_anchor(heading) for heading in re.findall(r"^#+ (.+)", PAGE, re.M)}
    missing = {}
    for path in BOOK.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        linked = set(re.findall(r"references\.md#([^)\s]+)", text))
        if linked - anchors:
            missing[path.relative_to(BOOK).as_posix()] = linked - anchors
    assert not missing
