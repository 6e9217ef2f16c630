import re

import pytest

from execute import BOOK
from list_claims import PAGE, make_page, move_links, read_claim

SOURCE = """\
---
jupytext:
  text_representation: {{extension: .md, format_name: myst}}
---

# A title

{claim}

```{{code-cell}} python
x = 1
assert x
```

## Checked claims

```{{code-cell}} python
{checks}
```
"""
CLAIM = "**The claim:** it holds.\nIn two lines.\n\nMore words."
CHECKS = "y = 2\nassert y == 2  # why\nfor i in range(3):\n    assert i < y + 1"


def write(folder, *, claim=CLAIM, checks=CHECKS):
    path = folder / "chapter.md"
    path.write_text(SOURCE.format(claim=claim, checks=checks), encoding="utf-8")
    return path


def test_the_page_is_in_step_with_the_notebooks():
    assert PAGE.read_text(encoding="utf-8") == make_page(), "run `make execute`"


def test_the_number_of_assertions_is_the_sum_over_the_chapters():
    page = make_page()
    total = int(re.search(r"make (\d+) assertions", page)[1])
    assert total == sum(map(int, re.findall(r"\{dropdown\} (\d+) assertion", page)))


def test_a_claim_is_its_paragraph_and_the_checks_are_what_stands_below_the_heading(
    tmp_path,
):
    title, claim, checks, number = read_claim(write(tmp_path))
    assert (title, checks, number) == ("A title", CHECKS, 2)
    assert claim == "It holds.\nIn two lines."


def test_checks_in_several_cells_are_all_shown(tmp_path):
    path = write(tmp_path)
    path.write_text(path.read_text() + "\n```{code-cell} python\nassert True\n```\n")
    assert read_claim(path)[2:] == (f"{CHECKS}\n\nassert True", 3)


@pytest.mark.parametrize(
    "broken", [{"claim": "Some words."}, {"checks": "print('no assertion')"}]
)
def test_a_chapter_without_claim_or_assertion_is_named(tmp_path, broken):
    with pytest.raises(ValueError, match=r"chapter\.md must have .*'\*\*The claim'"):
        read_claim(write(tmp_path, **broken))


def test_links_lead_to_the_same_page_from_the_root_of_the_book():
    text = "[a](../references.md#x) [b](lora.ipynb) [c](https://example.org/d.md)"
    moved = "[a](references.md#x) [b](code/lora.ipynb) [c](https://example.org/d.md)"
    assert move_links(text, BOOK / "code") == moved
