import json
from types import SimpleNamespace

from docutils import nodes
from docutils.utils import new_document

from page_notes import add_description, append_record, describe, lighten, summarize

RECORD = {
    "date": "2026-03-05",
    "python": "3.11.7",
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "scikit-learn": "1.9.1",
    "numpy": "2.4.6",
}


def append_to(folder, *, metadata, page="book/chapter"):
    (folder / "book").mkdir()
    text = json.dumps({"metadata": metadata})
    (folder / "book" / "chapter.ipynb").write_text(text)
    context = {"body": "<h1>A chapter</h1>\n"}
    append_record(SimpleNamespace(srcdir=folder), page, "page.html", context, None)
    return context["body"]


def test_the_sentence_names_the_day_and_every_version():
    assert describe(RECORD) == (
        "The outputs on this page are of 5 March 2026: Python 3.11.7, "
        "TensorFlow 2.21.0, Keras 3.15.1, scikit-learn 1.9.1 and NumPy 2.4.6."
    )


def test_a_notebook_page_ends_with_its_record(tmp_path):
    body = append_to(tmp_path, metadata={"executed": RECORD})
    assert body.startswith("<h1>A chapter</h1>") and "5 March 2026" in body


def test_a_notebook_that_was_never_run_gets_no_sentence(tmp_path):
    assert append_to(tmp_path, metadata={}) == "<h1>A chapter</h1>\n"


def test_a_page_that_is_no_notebook_stays_as_it_is(tmp_path):
    body = append_to(tmp_path, metadata={"executed": RECORD}, page="book/index")
    assert body == "<h1>A chapter</h1>\n"


def make_page(*paragraphs):
    doctree = new_document("page")
    doctree += nodes.title(text="A title")
    doctree += [nodes.paragraph(text=text) for text in paragraphs]
    return doctree


def test_the_summary_is_the_first_paragraph_on_one_line():
    assert summarize(make_page("One\nand two.", "Three.")) == "One and two."


def test_a_long_summary_ends_between_two_words():
    assert summarize(make_page("four five six"), width=11) == "four five …"


def test_the_head_of_a_page_describes_it():
    context = {"metatags": "<meta charset>\n"}
    add_description(None, "page", "page.html", context, make_page('Gain "or" <loss>?'))
    assert context["metatags"] == (
        "<meta charset>\n"
        '<meta name="description" content="Gain &quot;or&quot; &lt;loss&gt;?" />\n'
    )


def test_a_page_without_a_source_is_not_described():
    context = {"metatags": ""}
    add_description(None, "search", "search.html", context, None)
    assert context == {"metatags": ""}


ICONS = '<script src="_static/vendor/fontawesome/6/js/all.min.js?digest=1"></script>'
FONT = '<link rel="preload" as="font" crossorigin href="_static/fa-solid-900.woff2" />'
MATHJAX = (
    '<script>window.MathJax = {"options": {"enableMenu": false}}</script>'
    '<script defer="defer" src="_static/vendor/mathjax/es5/tex.js"></script>'
)
OTHERS = '<script src="_static/book.js"></script><link rel="preload" as="script" />'


def lighten_head(head, body=""):
    """What becomes of a page with this head; without the tags around."""
    page = lighten(f"<head>{head}</head><body>{body}</body>")
    return page.removeprefix("<head>").partition("</head>")[0]


def test_a_page_without_formulas_loads_neither_mathjax_nor_the_icons_script():
    left = lighten_head(ICONS + FONT + MATHJAX + OTHERS)
    assert left == OTHERS.replace("<script", '<script defer="defer"')


def test_a_page_with_formulas_keeps_mathjax_for_later():
    formula = '<span class="math notranslate nohighlight">x</span>'
    later = MATHJAX.replace('defer="defer"', 'type="text/for-later"')
    assert lighten_head(ICONS + MATHJAX, formula) == later


def test_scripts_wait_for_the_text_but_for_those_that_the_next_line_uses():
    options = '<script src="_static/documentation_options.js?v=1"></script>'
    inline = "<script>let toggleHintShow = 1;</script>"
    tabs = '<script data-prefix="tab" src="_static/design-tabs.js"></script>'
    assert lighten_head(options + inline + tabs) == options + inline + (
        '<script defer="defer" data-prefix="tab" src="_static/design-tabs.js"></script>'
    )


def test_scripts_in_the_body_stay_as_they_are():
    body = '<script src="bootstrap.js"></script>'
    assert body in lighten(f"<head></head><body>{body}</body>")


def test_icons_do_not_keep_the_text_waiting():
    style = '<link href="_static/vendor/fontawesome/6/css/all.min.css?digest=1" {} />'
    waiting = style.format('rel="stylesheet"')
    later = style.format('rel="stylesheet" media="print" data-for-later')
    assert lighten_head(waiting) == later
