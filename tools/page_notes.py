"""A Sphinx extension: notebook pages end with when, and with what, they were run."""

import datetime
import json
from pathlib import Path

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


def setup(app):
    app.connect("html-page-context", append_record)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
