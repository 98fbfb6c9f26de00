"""The page as somebody without a mouse, without a network or on a phone meets it."""

from __future__ import annotations

import json

import pytest

from clclip.report import page
from clclip.report.sections.heatmap import tone
from tests.helpers.report import world

chromium = pytest.importorskip("tests.helpers.report.chromium", reason="needs the dev group")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.BROWSER is None, reason="no Chromium (apt-get install chromium)"),
]
NAMES = ["red <b>disc</b>", "blue disc", "green disc", "gold disc"]
# Lowest contrast of visible text against what lies behind it; pictures and shaded cells left out.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const colour = (text) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return Array.from(canvas.getImageData(0, 0, 1, 1).data);
  };
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found[3] > 200) return found;
    }
    return [255, 255, 255, 255];
  };
  const seen = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = walk.nextNode(); text; text = walk.nextNode()) {
    const node = text.parentElement;
    if (!text.textContent.trim() || node.closest("svg, script, style, .hidden-text, .skip, option"))
      continue;
    if (!node.checkVisibility()) continue;
    const [a, b] = [light(colour(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen.push([ratio, node.className || node.tagName, text.textContent.trim().slice(0, 30)]);
  }
  return seen.sort((a, b) => a[0] - b[0]).slice(0, 5);
})()"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    truth = world.draw_images(root, NAMES, 12)
    groups = [NAMES[:2], NAMES[2:3], NAMES[3:]]
    paths = [world.run(root, f"zoo_{m}", m, groups, truth, (0, 1)) for m in ("fvit", "clclip")]
    paths.append(world.classify(root, "cil_seca", "seca", [["a", "b"], ["c"]], 0.9, (0, 1)))
    world.store_features(root, truth, NAMES)
    page.report(paths, root / "results" / "report.html", {"examples": 3})
    return (root / "results" / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = chromium.Chromium(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_loads_alone_and_fits(browser, address, width, dark):
    browser.open(address, width, dark)
    asked = [p["request"]["url"] for m, p in browser.events if m == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith("data:")] == [address]
    said = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    assert [event for event in browser.events if event[0] in said] == []
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, paper[4:-1].split(","))) < 80) == dark
    assert browser.evaluate(CONTRAST)[0][0] >= 4.5, browser.evaluate(CONTRAST)


@pytest.mark.parametrize("dark", [False, True])
def test_numbers_of_every_shade_can_be_read(browser, address, dark):
    browser.open(address, 1400, dark)
    cells = "".join(
        f'<td class="{side} {tone(shade, side)}" style="--s:{shade}%">{side} {shade}</td>'
        for side in ("low", "high")
        for shade in range(101)
    )
    table = f"<table class=heat><tr>{cells}</tr></table>"
    browser.evaluate(f"document.body.innerHTML = {json.dumps(table)}; 0")
    assert browser.evaluate(CONTRAST)[0][0] >= 4.4, browser.evaluate(CONTRAST)


def test_keyboard_alone(browser, address):
    browser.open(address, 1400)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.className") == "skip"
    browser.press("Enter")
    assert browser.evaluate("location.hash") == "#main"
    for _ in range(20):
        browser.press("Tab")
        if browser.evaluate("document.activeElement.closest('table.sortable th') !== null"):
            break
    sort = "document.activeElement.closest('th').getAttribute('aria-sort')"
    assert browser.evaluate(sort) == "none"
    browser.press("Enter")
    first = browser.evaluate(sort)
    browser.press("Enter")
    assert {first, browser.evaluate(sort)} == {"ascending", "descending"}
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert browser.evaluate(outline) != "none", "the focus is to be seen"
    browser.evaluate("document.querySelector('select.steps').focus()")
    shown = "document.querySelector('.step:not([hidden]) svg').getAttribute('aria-label')"
    before = browser.evaluate(shown)
    browser.evaluate("document.activeElement.selectedIndex = 0")
    browser.evaluate("document.activeElement.dispatchEvent(new Event('input', {bubbles: true}))")
    assert browser.evaluate(shown) != before
    browser.evaluate("document.querySelectorAll('.thumbs button')[1].focus()")
    browser.press("Enter")
    pressed = "document.activeElement.getAttribute('aria-pressed')"
    assert browser.evaluate(pressed) == "true"
