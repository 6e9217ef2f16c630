"""Write `book/claims.md`: what each chapter claims, and the assertions that check it.

    python tools/list_claims.py        # `make execute` does it, too

The page is made from the notebooks alone, in the order of the table of contents, so
it cannot say what a notebook does not.
"""

import ast
import os
import re
from pathlib import Path

import yaml

from execute import BOOK, ROOT, convert, write_atomically

PAGE = BOOK / "claims.md"
HEADING = "## Checked claims"
INTRODUCTION = """\
# The claims

What this book says, on one page. Under each chapter stands its claim and, folded,
the assertions that check it: the code under "Checked claims" at the end of its
notebook, word for word. The tests run every notebook from its first cell to the last,
so a claim that stops being true stops the tests. Names such as `mean` or `verdicts`
are explained in the chapter.

This page is made from the notebooks and cannot say what they do not. Together they
make {total} assertions.
"""


def find_chapters():
    """Captions and notebook sources, in the order of the table of contents."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for part in toc["parts"]:
        files = [ROOT / chapter["file"] for chapter in part["chapters"]]
        notebooks = [p.with_suffix(".md") for p in files if p.suffix == ".ipynb"]
        if notebooks:
            yield part["caption"], notebooks


def move_links(text, folder):
    """Rewrite the relative links of a page in `folder` for the root of the book."""

    def move(match):
        target = match[1]
        if re.match(r"\w+:|#", target):
            return match[0]
        return f"]({Path(os.path.relpath(folder / target, BOOK)).as_posix()})"

    return re.sub(r"\]\(([^()\s]+)\)", move, text)


def read_claim(source):
    """Title, claim, code under "Checked claims", and how many assertions it makes."""
    notebook = convert(source)
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    claim = re.search(r"^\*\*The claim.*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    headings = [i for i, c in enumerate(notebook.cells) if HEADING in c.source]
    below = notebook.cells[headings[-1] :] if headings else []
    cells = [cell for cell in below if cell.cell_type == "code"]
    checks = "\n\n".join(c.source for c in cells)
    asserts = [n for n in ast.walk(ast.parse(checks)) if isinstance(n, ast.Assert)]
    if not (title and claim and asserts):
        raise ValueError(
            f"{source.name} must have a title, a paragraph that begins with "
            f"'**The claim', and assertions under a heading '{HEADING}'."
        )
    words = re.sub(r"^The claim[:,] ", "", claim[0].replace("**", ""))
    words = move_links(words[0].upper() + words[1:], source.parent)
    return title[1], words, checks, len(asserts)


def make_page():
    """The text of `book/claims.md`."""
    parts, total = [], 0
    for caption, sources in find_chapters():
        parts.append(f"## {caption}")
        for source in sources:
            title, claim, checks, number = read_claim(source)
            link = source.relative_to(BOOK).with_suffix(".ipynb").as_posix()
            times = f"{number} assertion{'s' if number > 1 else ''}"
            parts.append(f"### [{title}]({link})\n\n{claim}")
            parts.append(f":::{{dropdown}} {times}\n```python\n{checks}\n```\n:::")
            total += number
    return "\n\n".join([INTRODUCTION.format(total=total).strip(), *parts]) + "\n"


if __name__ == "__main__":
    write_atomically(PAGE, make_page().encode())
