"""A Sphinx extension: what each page says of itself, and what it need not load.

When, and with what, a notebook was run stands at the end of its page; what the page is
about, where search engines look for it. Heavy files that the theme loads on every page,
and this site never uses, are taken out.
"""

import datetime
import html
import json
import re
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


# Icons come from a font here. The theme also loads a script that draws them, 0.5 MB
# compressed, before anything else is shown; and it fetches fonts ahead of the text. A
# style sheet for print keeps nobody waiting; assets/book.js turns it on in the end.
ICON_SCRIPT = re.compile(r'\s*<script src="[^"]*/fontawesome/[^"]*"></script>')
ICON_STYLE = re.compile(r'(<link href="[^"]*/fontawesome/[^"]*" rel="stylesheet") />')
LATER = r'\1 media="print" data-for-later />'
FONT_AHEAD = re.compile(r'\s*<link rel="preload" as="font"[^>]*/>')
# In the order of the page all the same, but without keeping the text waiting. Only
# this one is used by a line of script right below it.
KEPT = "documentation_options"
SCRIPT = re.compile(rf'<script (?=(data-\S+ )?src="(?![^"]*{KEPT})[^"]*"></script>)')
MATHJAX = re.compile(r'(?<=<script )defer="defer"(?= src="[^"]*/mathjax/)')
# Of a type that no browser runs; assets/book.js runs it when a formula comes near.
LATER_SCRIPT = 'type="text/for-later"'
MATHJAX_AND_OPTIONS = re.compile(
    r"\s*<script>window\.MathJax = [^<]*</script>"
    r'|\s*<script defer="defer" src="[^"]*/mathjax/[^"]*"></script>'
)


def lighten(page):
    """The HTML of a page without what it does not use, the text before the scripts."""
    page = ICON_STYLE.sub(LATER, FONT_AHEAD.sub("", ICON_SCRIPT.sub("", page)))
    head, end, rest = page.partition("</head>")
    page = SCRIPT.sub('<script defer="defer" ', head) + end + rest
    if 'class="math' in page:
        return MATHJAX.sub(LATER_SCRIPT, page)
    return MATHJAX_AND_OPTIONS.sub("", page)


def lighten_all(app, error):
    """Handle Sphinx's event: go over the pages, once they are all written."""
    if error is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.html"):
            text = path.read_text(encoding="utf-8")
            path.write_text(lighten(text), encoding="utf-8")


def setup(app):
    app.connect("html-page-context", append_record)
    app.connect("html-page-context", add_description)
    app.connect("build-finished", lighten_all)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
