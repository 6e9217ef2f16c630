"""Every page of the built website, opened in a real browser."""

import html
import os
import re
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import axe_playwright_python
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"
PAGES = sorted(p.relative_to(HTML).as_posix() for p in HTML.glob("book/**/*.html"))
NOTEBOOKS = [p for p in PAGES if (ROOT / p).with_suffix(".ipynb").exists()]
WIDTHS, THEMES = (1280, 390), ("light", "dark")
# axe is slow. Menus are the same on every page, and elements of code and formulas alike
# by the thousand. So the index is searched with its menus, at both widths and in both
# themes, and one chapter with its code. Of other pages the text is, in one of the four
# looks: of one page of each kind, or, with EVERY_PAGE set, as in the workflow, of all.
INDEX, CHAPTER = "book/index.html", "book/algorithm/four_steps.html"
ONE_OF_EACH_KIND = {
    "book/claims.html",
    "book/code/text_gru.html",
    "book/glossary.html",
    "book/introduction/which_recipe.html",
    "book/playground.html",
}
FAR_FORMULA = "book/challenges/choosing_a_source.html"  # none in its first screens
SEARCHED = set(PAGES) if os.environ.get("EVERY_PAGE") else ONE_OF_EACH_KIND
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf-8")
RUN_AXE = """
async (exclude) => {
  const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"];
  const options = { runOnly: tags, resultTypes: ["violations"], preload: false };
  const found = await axe.run({ exclude }, options);
  return found.violations.flatMap(
    (rule) => rule.nodes.map((node) => `${rule.id}: ${node.html.slice(0, 120)}`));
}
"""
ALIKE = ["div.highlight pre", "mjx-container", ".bd-sidebar-primary"]
LIGHT_TOUCH = [[part] for part in [*ALIKE, ".bd-sidebar-secondary", ".bd-header"]]
MAX_HTML = 1_000_000  # bytes of a page, its figures not counted
TYPESET = """
async () => {
  const formulas = [...document.querySelectorAll("span.math, div.math")];
  const wait = (time) => new Promise((resolve) => setTimeout(resolve, time));
  const isShown = (formula) => formula.getClientRects().length > 0;
  const first = formulas.find(isShown) ?? formulas[0];
  first?.closest("details")?.setAttribute("open", "");
  first?.scrollIntoView();
  const isMissing = () => first && !window.MathJax.startup?.promise;
  for (let i = 0; isMissing() && i < 200; i += 1) await wait(50);
  if (first) await MathJax.startup.promise;
  window.scrollTo(0, 0);
  const count = (selector) => document.querySelectorAll(selector).length;
  return [count("span.math, div.math"), count("mjx-container"), count("mjx-merror")];
}
"""


def set_look(page, width, theme):
    """Resize and set the theme; wait until the page's own scripts have followed."""
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f"document.documentElement.dataset.theme = {theme!r}")
    page.wait_for_timeout(400)  # the theme waits a moment before it looks again


@pytest.fixture
def page(browser, watch):
    page = watch(browser.new_page())
    yield page
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_page_is_sound(page, site, name):
    page.goto(site + name)
    formulas, typeset, failed = page.evaluate(TYPESET)
    assert (typeset, failed) == (formulas, 0), "a formula is not typeset"
    turn = PAGES.index(name) % 4
    for width in (WIDTHS[1 - turn % 2], WIDTHS[turn % 2]):
        page.set_viewport_size({"width": width, "height": 900})
        seen = page.evaluate("document.documentElement.scrollWidth")
        assert seen <= width, f"the page scrolls sideways at {width} pixels"
    if name in SEARCHED:
        check_with_axe(page, width, THEMES[turn // 2], LIGHT_TOUCH)
    assert page.wrong == []


def test_what_weighs_much_waits_until_the_reader_comes_to_it(page, site):
    asked = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.set_viewport_size({"width": 390, "height": 800})
    for name, place, script in (
        (FAR_FORMULA, "span.math >> nth=0", "tex-chtml.js"),
        ("book/playground.html", "#pg-status", "tf.min.js"),
    ):
        page.goto(site + name)
        page.evaluate("() => window.textIsShown")
        page.wait_for_timeout(500)
        assert not [file for file in asked if file.startswith(script)]
        with page.expect_request(f"**/{script}*"):
            page.locator(place).scroll_into_view_if_needed()
        asked.clear()


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_index_is_accessible_in_every_look(page, site, width, theme):
    page.goto(site + INDEX)
    check_with_axe(page, width, theme, [])


def test_code_and_formulas_are_accessible(page, site):
    page.goto(site + CHAPTER)
    page.evaluate(TYPESET)
    check_with_axe(page, 1280, "light", [])


def check_with_axe(page, width, theme, exclude):
    set_look(page, width, theme)
    page.evaluate(AXE)
    assert page.evaluate(RUN_AXE, exclude) == []


def find_targets(html):
    """What the links, images, scripts and styles of a page refer to."""
    return re.findall(r'(?:href|src)="([^"]+)"', html)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_and_anchor_leads_somewhere(name):
    html = (HTML / name).read_text(encoding="utf-8")
    for target in find_targets(html):
        url, anchor = urldefrag(urljoin(f"site:///{name}", target))
        if not url.startswith("site:///") or url.endswith("/#"):
            continue
        path = HTML / unquote(url.removeprefix("site:///").partition("?")[0])
        assert path.is_file(), f"{target} leads nowhere"
        if anchor and path.suffix == ".html":
            found = re.search(
                rf'(?:id|name)="{re.escape(unquote(anchor))}"', path.read_text("utf-8")
            )
            assert found, f"{target}: no such anchor"


@pytest.mark.parametrize("name", PAGES)
def test_images_say_what_they_show(name):
    html = (HTML / name).read_text(encoding="utf-8")
    for image in re.findall(r"<img[^>]*>", html):
        alt = re.search(r'alt="([^"]*)"', image)
        assert alt and len(alt[1]) > 5 and not re.search(r"\.(png|svg)$", alt[1]), image


@pytest.mark.parametrize("name", PAGES)
def test_page_tells_search_engines_what_it_is_about(name):
    page = (HTML / name).read_text(encoding="utf-8")
    (description,) = re.findall(r'<meta name="description" content="([^"]*)"', page)
    assert 20 < len(html.unescape(description)) <= 160


@pytest.mark.parametrize("name", PAGES)
def test_page_is_light(name):
    html = (HTML / name).read_text(encoding="utf-8")
    assert len(re.sub(r'"data:[^"]*"', "", html).encode()) < MAX_HTML


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_page_opens_in_colab_and_binder_and_can_be_downloaded(name):
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    home = config["repository"]["url"].removeprefix("https://github.com/")
    branch, notebook = config["repository"]["branch"], name.replace(".html", ".ipynb")
    links = set(find_targets((HTML / name).read_text(encoding="utf-8")))
    assert (
        f"https://colab.research.google.com/github/{home}/blob/{branch}/{notebook}"
        in links
    )
    assert (
        f"https://mybinder.org/v2/gh/{home}/{branch}?urlpath=lab/tree/{notebook}"
        in links
    )
    assert any(link.endswith(f"_sources/{notebook}") for link in links)


def test_search_finds_a_chapter(page, site):
    page.goto(site + "search.html?q=calibration")
    page.wait_for_selector("#search-results li a")
    titles = page.locator("#search-results li a").all_inner_texts()
    assert any("Forgetting and calibration" in title for title in titles)


def test_the_keyboard_reaches_the_menu_and_the_search(page, site):
    page.goto(site + "book/index.html")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.className"))
    words = " ".join(reached)
    assert "search-button" in words or "search-field" in words
    assert "reference internal" in words  # a chapter in the menu


def test_the_site_opens_from_disk(browser):
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((HTML / "book" / "algorithm" / "theory.html").as_uri())
    formulas, typeset, failed = page.evaluate(TYPESET)
    assert typeset == formulas > 0 and failed == 0
    assert all(url.startswith(("file:", "data:")) for url in asked)
    page.close()
