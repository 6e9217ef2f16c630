"""The playground, used as a reader uses it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from transfer_tutorial.playground import load_head
from transfer_tutorial.pretrained import build_source_cnn_backbone

PAGE = "book/playground.html"
# For tests that need no graphics card, and for the one of a browser without WebGL.
HIDE_WEBGL = """
const original = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
  return kind.includes("webgl") ? null : original.call(this, kind, ...rest);
};
globalThis.OffscreenCanvas = undefined;
"""
LARGEST_DIFFERENCE = """async () => {
  const { backbone, samples } = window.playground;
  const features = await backbone.extract(samples.map(({ pixels }) => pixels));
  return Math.max(...features.flatMap((row, i) =>
    [...row].map((value, j) => Math.abs(value - samples[i].features[j]))));
}"""
# Pixels of bundled test pictures, and what the trained head says of them.
PREDICTIONS = """() => {
  const { bundle, predictHead, state } = window.playground;
  const pictures = bundle.flatMap(({ tests }) => tests.slice(0, 3));
  return pictures.map(({ pixels, features }) =>
    [[...pixels], predictHead(state.head, features)]);
}"""

# Opening the page costs more than most of these tests: they share one.
START_AGAIN = """() => {
  window.playground.classes.splice(0);
  const button = document.getElementById("pg-add-class");
  for (const id of ["pg-say-examples", "pg-say-train", "pg-say-try"]) {
    document.getElementById(id).textContent = "";
  }
  document.getElementById("pg-scratch").checked = false;
  window.playground.state.shown = null;
  button.disabled = false;
  button.click();
  button.click();
}"""


@pytest.fixture(scope="module")
def open_page(browser, site, watch):
    """A function that opens the playground; see `watch` for `page.wrong`."""
    contexts = []

    def open_page(address=site + PAGE, *, webgl=False):
        contexts.append(browser.new_context())
        if not webgl:
            contexts[-1].add_init_script(HIDE_WEBGL)
        page = watch(contexts[-1].new_page(), from_disk=address.startswith("file:"))
        response = page.goto(address)
        assert response.ok, "the website is older than the page: run `make book`"
        page.locator("#pg-status").scroll_into_view_if_needed()
        page.evaluate("() => window.playground.ready")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def only_page(open_page):
    return open_page()


@pytest.fixture
def page(only_page):
    """The playground with two empty classes; in the end nothing may have gone wrong."""
    only_page.evaluate(START_AGAIN)
    yield only_page
    assert not only_page.wrong


def fill(page, number, kind, count):
    card = page.get_by_role("group", name=f"Class {number}", exact=True)
    card.get_by_label(f"bundled pictures for class {number}").select_option(kind)
    card.get_by_label(f"how many, for class {number}").fill(str(count))
    card.get_by_role("button", name="Fill").click()


def train(page):
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator(".pg-result.pg-probe").wait_for()


def upload(page, *files):
    page.get_by_label("Upload for class 1").set_input_files(files)


def wait_for_text(page, target, text):
    page.locator(target).filter(has_text=text).wait_for()


def test_features_are_those_of_keras_with_webgl(open_page):
    page = open_page(webgl=True)
    assert page.evaluate("playground.backend") == "webgl"
    assert page.evaluate(LARGEST_DIFFERENCE) < 1e-4
    assert not page.wrong


def test_features_are_those_of_keras_without_webgl(page):
    assert page.evaluate("playground.backend") == "cpu"
    assert page.evaluate(LARGEST_DIFFERENCE) < 1e-4


def test_page_opened_as_a_file_has_the_same_features(open_page, html):
    page = open_page((html / PAGE).as_uri())
    assert page.evaluate(LARGEST_DIFFERENCE) < 1e-4
    assert not page.wrong


def test_downloaded_head_says_the_same_in_keras(page, tmp_path):
    fill(page, 1, "deer", 5)
    fill(page, 2, "ship", 5)
    train(page)
    page.get_by_role("button", name="by chance").click()
    wait_for_text(page, "#pg-say-try", "Head on frozen features: ")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the head").click()
    download.value.save_as(tmp_path / "head.json")
    pixels, expected = zip(*page.evaluate(PREDICTIONS), strict=True)

    classifier = load_head(tmp_path / "head.json", build_source_cnn_backbone())
    images = np.array(pixels, "uint8").reshape(-1, 32, 32, 3)
    assert list(classifier.class_names) == ["deer", "ship"]
    assert_allclose(classifier.predict(images, verbose=0), expected, atol=1e-4)


def test_training_again_gives_the_same_head(page):
    page.get_by_role("button", name="Fill in four").click()
    heads = []
    for _ in range(2):
        train(page)
        heads.append(page.evaluate("JSON.stringify(playground.state.head.bias)"))
    assert heads[0] == heads[1]


def test_slider_redraws_the_curve(page):
    fill(page, 1, "deer", 5)
    fill(page, 2, "ship", 5)
    train(page)
    rows = page.locator("#pg-curve tbody tr")
    page.locator("#pg-curve svg").first.wait_for()
    assert rows.locator("th").all_text_contents() == ["1", "2", "5"]
    page.get_by_label("Examples a class that are used").fill("2")
    wait_for_text(page, "#pg-say-train", "Examples a class: 2.")
    rows.nth(2).wait_for(state="detached")
    assert rows.locator("th").all_text_contents() == ["1", "2"]


def test_network_from_scratch_is_shown_beside_the_head(page):
    fill(page, 1, "deer", 1)
    fill(page, 2, "ship", 1)
    page.get_by_label("Train a network from scratch").check()
    train(page)
    wait_for_text(page, "#pg-say-train", "Network from scratch: ")
    assert page.locator("#pg-results > *").count() == 2
    page.get_by_role("button", name="by chance").click()
    wait_for_text(page, "#pg-say-try", "Network from scratch: ")


def test_own_pictures_train_and_a_file_that_is_none_is_named(page, tmp_path):
    for name, color in [("red.png", "red"), ("blue.jpg", "blue")]:
        Image.new("RGB", (60, 40), color).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    upload(page, tmp_path / "red.png", tmp_path / "notes.txt")
    wait_for_text(page, "#pg-say-examples", "notes.txt is not a picture")
    page.get_by_label("Upload for class 2").set_input_files(tmp_path / "blue.jpg")
    wait_for_text(page, "#pg-ready", "Ready to train")
    train(page)
    page.get_by_label("A picture of yours").set_input_files(tmp_path / "red.png")
    wait_for_text(page, "#pg-say-try", "Head on frozen features: class 1")


def test_picture_is_cut_to_its_middle(page, tmp_path):
    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    image.save(tmp_path / "stripes.png")
    upload(page, tmp_path / "stripes.png")
    wait_for_text(page, "#pg-say-examples", "1 added")
    pixels = page.evaluate("[...playground.classes[0].pictures[0].pixels]")
    assert np.array_equal(np.reshape(pixels, (1024, 3)), [[0, 0, 255]] * 1024)


def test_huge_picture_is_refused_with_its_size(page, tmp_path):
    Image.new("1", (10_000, 5_000)).save(tmp_path / "huge.png")
    upload(page, tmp_path / "huge.png")
    wait_for_text(page, "#pg-say-examples", "huge.png has 50 megapixels")
    assert page.locator(".pg-thumbnail").count() == 0


def test_one_class_cannot_be_trained_and_the_page_says_why(page):
    fill(page, 1, "deer", 3)
    wait_for_text(page, "#pg-ready", "Only deer has examples.")
    assert page.get_by_role("button", name="Train", exact=True).is_disabled()


@pytest.mark.parametrize(
    "devices",
    [
        "undefined",
        "{ async getUserMedia() { throw new DOMException('', 'NotAllowedError'); } }",
    ],
    ids=["absent", "refused"],
)
def test_without_a_camera_the_page_names_other_ways(page, devices):
    camera = f"{{ value: {devices}, configurable: true }}"
    page.evaluate(f"Object.defineProperty(navigator, 'mediaDevices', {camera})")
    page.get_by_role("button", name="Use the camera").click()
    wait_for_text(page, "#pg-say-examples", "Draw, upload, or take bundled pictures.")


def test_drawing_is_answered_while_it_is_drawn(page):
    page.get_by_role("button", name="Fill in four").click()
    train(page)
    board = page.locator("#pg-board")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 160)
    wait_for_text(page, "#pg-say-try", "Your drawing. Head on frozen features: ")
    page.mouse.up()


def press_tab_until(page, target):
    for _ in range(120):
        if page.evaluate("target => document.activeElement.matches(target)", target):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{target} is not reached with the Tab key")


def test_keyboard_alone_is_enough(page):
    page.focus("#pg-fill-all")
    page.keyboard.press("Enter")
    press_tab_until(page, ".pg-thumbnail")
    page.keyboard.press("Enter")
    wait_for_text(page, "#pg-say-examples", "9 pictures of automobile left")
    press_tab_until(page, "#pg-train")
    style = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(style) == "solid"
    page.keyboard.press("Enter")
    page.locator(".pg-result.pg-probe").wait_for()
    press_tab_until(page, "#pg-chance")
    page.keyboard.press("Enter")
    wait_for_text(page, "#pg-say-try", "A test picture: ")


def test_every_control_has_a_name(page):
    page.get_by_role("button", name="Fill in four").click()
    unnamed = """() => [...document.querySelectorAll(
      ".playground :is(button, input, select, canvas[role], progress, video)")]
      .filter((e) => !(e.getAttribute("aria-label") || e.labels?.[0]?.textContent.trim()
        || e.textContent.trim())).map((e) => e.outerHTML)"""
    assert page.evaluate(unnamed) == []


def test_page_fits_a_telephone(page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_role("button", name="Fill in four").click()
    train(page)
    page.locator("#pg-curve svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
