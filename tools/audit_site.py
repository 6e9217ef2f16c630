"""Print Lighthouse's four numbers for the kinds of page that the site has.

    python tools/audit_site.py   # after `make book`; needs npm and Chromium or Chrome

The site is served as static hosts serve it, compressed. Lighthouse plays a phone on a
slow network, so its `performance` depends on how busy this machine is: run it on an
idle one. Whatever is below 90 is listed with the audits that cost most.
"""

import argparse
import functools
import gzip
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
LIGHTHOUSE = "lighthouse@12.8.2"
PAGES = ("book/index.html", "book/code/lora.html", "book/playground.html")
CATEGORIES = ("performance", "accessibility", "best-practices", "seo")
BROWSERS = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"
COMPRESSED = {".html", ".css", ".js", ".svg", ".json", ".txt"}


class CompressingHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files, text compressed, over connections that stay open; says nothing."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if path.suffix not in COMPRESSED or not path.is_file():
            return super().do_GET()
        content = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", f"{self.guess_type(path)}; charset=utf-8")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "max-age=600")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


def install(folder):
    """Lighthouse's command; npm puts it into `folder`, without a browser."""
    command = ["npm", "install", "--silent", "--no-save", LIGHTHOUSE]
    environment = {**os.environ, "PUPPETEER_SKIP_DOWNLOAD": "1"}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return Path(folder) / "node_modules" / ".bin" / "lighthouse"


def find_browser():
    """The path of a Chromium or Chrome of this machine, or None."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def audit(lighthouse, browser, url):
    """Lighthouse's report on one page, as a dict."""
    command = [lighthouse, url, "--quiet", "--output=json"]
    command += ["--chrome-flags=--headless=new --no-sandbox --disable-gpu"]
    command += [f"--only-categories={','.join(CATEGORIES)}"]
    environment = {**os.environ, "CHROME_PATH": browser}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def find_costs(report, category):
    """(weight lost, title) of the audits of a category that are not passed."""
    for part in report["categories"][category]["auditRefs"]:
        found = report["audits"][part["id"]]
        if found["score"] is not None and found["score"] < 0.9 and part["weight"]:
            shown = found.get("displayValue", "")
            yield part["weight"] * (1 - found["score"]), f"{found['title']} {shown}"


def describe(report):
    """Print the numbers of a page, and what lowers them."""
    scores = {
        name: round(100 * report["categories"][name]["score"]) for name in CATEGORIES
    }
    print("  ".join(f"{name} {score}" for name, score in scores.items()))
    for name, score in scores.items():
        if score < 90:
            for _, title in sorted(find_costs(report, name), reverse=True):
                print(f"    {name}: {title}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", default=PAGES, help="below _build/html")
    arguments = parser.parse_args()
    if not SITE.is_dir():
        sys.exit("Error: there is no site yet; run: make book")
    browser = find_browser()
    if browser is None:
        sys.exit(f"Error: no browser; looked for {', '.join(BROWSERS)}")
    handler = functools.partial(CompressingHandler, directory=SITE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        lighthouse = install(folder)
        for page in arguments.pages:
            print(page, end="\n    ", flush=True)
            url = f"http://127.0.0.1:{server.server_port}/{page}"
            describe(audit(lighthouse, browser, url))
    server.shutdown()


if __name__ == "__main__":
    main()
