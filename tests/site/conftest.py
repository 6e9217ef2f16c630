"""The built website, served to a real browser. Nothing is built here."""

import functools
import http.server
import os
import threading
from pathlib import Path

import pytest

from audit_site import BROWSERS, find_browser

HTML = Path(__file__).resolve().parents[2] / "_build" / "html"
# No sandbox: it needs rights that containers do not give. The rest keeps the browser
# from talking to its maker.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Say nothing: pytest would show every request."""


@pytest.fixture(scope="session")
def html():
    """The folder of the built website."""
    if not (HTML / "index.html").is_file():
        pytest.skip(f"NO WEBSITE TO TEST: {HTML} is missing. Run `make book` first.")
    return HTML


@pytest.fixture(scope="session")
def site(html):
    """The address of the website, with a slash at its end."""
    handler = functools.partial(SilentHandler, directory=html)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


# For a module only: it keeps an event loop running, which other tests must not meet.
@pytest.fixture(scope="module")
def browser():
    """A Chromium or Chrome of this machine, without a window."""
    path = find_browser()
    if path is None:
        lack = f"NO BROWSER TO TEST WITH: install one of {', '.join(BROWSERS)}."
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") else pytest.skip)(lack)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def watch(site):
    """A function that lets a page write down in `page.wrong` what goes wrong in it."""

    def watch(page, *, from_disk=False):
        page.wrong = wrong = []
        home = (site, "data:", "blob:", *(["file:"] if from_disk else []))
        page.on("request", lambda r: r.url.startswith(home) or wrong.append(r.url))
        page.on("response", lambda r: r.status >= 400 and wrong.append(r.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        if not from_disk:  # to a file Chromium refuses the theme's font
            page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        return page

    return watch
