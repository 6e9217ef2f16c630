"""A Sphinx extension: when, and with what, a notebook was run; what a page is about.

The first stands at the end of the page, the second where search engines look for it.
"""

import datetime
import html
import json
import textwrap
from pathlib import Path

from docutils import nodes

TITLES = {
    "python": "Python",
    "tensorflow": "TensorFlow",
    "keras": "Keras",
    "scikit-learn": "scikit-learn",
    "numpy": "NumPy",
}


def describe(record):
    """One sentence for the record that `tools/execute.py` stores in a notebook."""
    day = datetime.date.fromisoformat(record["date"])
    *first, last = (f"{title} {record[name]}" for name, title in TITLES.items())
    when = f"{day.day} {day:%B %Y}"
    return f"The outputs on this page are of {when}: {', '.join(first)} and {last}."


def read_record(path):
    """The record in the notebook at `path`, or None where there is none."""
    if not path.exists():
        return None
    metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
    return metadata.get("executed")


def append_record(app, page, template, context, doctree):
    """Handle Sphinx's event: extend the page's HTML."""
    record = read_record(Path(app.srcdir) / f"{page}.ipynb")
    if record:
        context["body"] += f'<p class="executed">{describe(record)}</p>\n'


def summarize(doctree, *, width=160):
    """The beginning of a page's first paragraph, cut between two words."""
    paragraphs = doctree.findall(nodes.paragraph)
    return textwrap.shorten(next(paragraphs).astext(), width, placeholder=" …")


def add_description(app, page, template, context, doctree):
    """Handle Sphinx's event: extend the head of the page."""
    if doctree is not None:  # not the index of names, nor the search
        content = html.escape(summarize(doctree))
        context["metatags"] += f'<meta name="description" content="{content}" />\n'


def setup(app):
    app.connect("html-page-context", append_record)
    app.connect("html-page-context", add_description)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
