import re
from pathlib import Path

from audit_site import BROWSERS

MAKEFILE = Path(__file__).resolve().parents[2] / "Makefile"


def test_make_browser_looks_for_the_browsers_that_the_tests_look_for():
    named = re.search(r"^BROWSERS := (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    assert tuple(named[1].split()) == BROWSERS
