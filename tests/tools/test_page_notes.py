import json
from types import SimpleNamespace

from page_notes import append_record, describe

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
