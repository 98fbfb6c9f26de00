"""The page in a real browser: it loads without the network, and its controls work.

A copy of the page gets a script that uses the controls as a reader would and writes what it saw
into the document, which headless Chromium then prints.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest
import report_world as world

from clclip.report import page

BROWSER = next((p for n in ("chromium", "google-chrome", "chrome") if (p := shutil.which(n))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium (apt-get install chromium)"),
]
NAMES = ["red <b>disc</b>", "blue disc", "green disc", "gold disc"]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-sync "
    "--disable-component-update --no-first-run --virtual-time-budget=4000"
).split()
WATCH = """<script>
window.faults = [];
window.addEventListener("error", (e) => window.faults.push(String(e.message)));
document.addEventListener("securitypolicyviolation", (e) => window.faults.push(e.blockedURI));
</script>"""
USE = """<script>
window.addEventListener("load", () => {
  const all = (query) => Array.from(document.querySelectorAll(query));
  const visible = (box) => box.style.display !== "none";
  const open = ".gallery .picture:not([hidden])";
  const shown = (state) => all(open + " .box." + state).filter(visible).length;
  const tell = (node, kind) => node.dispatchEvent(new Event(kind, {bubbles: true}));
  const set = (node, value) => { node.value = value; tell(node, "input"); };
  const seen = {};
  const table = document.querySelector("table.data.sortable");
  const names = () => Array.from(table.tBodies[0].rows).map((row) => row.cells[0].dataset.value);
  const head = table.querySelector("thead th");
  head.querySelector("button").click();
  seen.up = [head.getAttribute("aria-sort"), names()];
  head.querySelector("button").click();
  seen.down = [head.getAttribute("aria-sort"), names()];
  const heat = document.querySelector("table.heat");
  const columns = () => Array.from(heat.rows[1].cells).filter((cell) => !cell.hidden).length;
  seen.columns = [columns()];
  const methods = document.querySelector("select.methods");
  methods.value = "1";
  tell(methods, "change");
  seen.columns.push(columns());
  const score = document.querySelector("input[type=range]");
  seen.default = [shown("right"), shown("object"), shown("truth")];
  set(score, 0.95);
  seen.strict = [shown("right"), shown("object")];
  set(score, 0.05);
  seen.loose = [shown("right"), shown("object")];
  const truth = document.querySelector("input[type=checkbox]");
  truth.checked = true;
  tell(truth, "input");
  seen.truth = shown("truth");
  set(document.querySelector("select.class"), all("select.class option")[1].value);
  const boxes = all(open + " .box").filter(visible);
  seen.named = new Set(boxes.map((box) => box.dataset.name)).size;
  set(document.querySelector("select.class"), "");
  const error = document.querySelector("select.error");
  const thumbs = all(".thumbs button");
  truth.checked = false;
  tell(truth, "input");
  seen.kinds = {};
  const kinds = ["right", "wrong", "wrong class", "localisation", "duplicate", "background"];
  for (const kind of [...kinds, "missed"]) {
    set(error, kind);
    const left = all(".gallery .box").filter(visible);
    const sorts = new Set(left.map((box) => box.dataset.kind || box.dataset.state));
    seen.kinds[kind] = [sorts.size, left.length, thumbs.filter((thumb) => !thumb.hidden).length,
      !document.querySelector(".none-left").hidden];
  }
  set(error, "");
  const pick = document.querySelector("select.shown-class");
  const maps = () => all(".switch")[0].querySelectorAll(".maps:not([hidden])");
  seen.maps = [maps().length, maps()[0].querySelectorAll("img")[0].alt];
  set(pick, pick.options[pick.options.length - 1].value);
  seen.maps.push(maps().length, maps()[0].querySelectorAll("img")[0].alt);
  thumbs[1].click();
  seen.thumb = [thumbs[1].getAttribute("aria-pressed"), all(open).length];
  const theme = document.getElementById("theme");
  const paper = () => getComputedStyle(document.body).backgroundColor;
  theme.click();
  const light = paper();
  theme.click();
  seen.theme = light !== paper();
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  seen.faults = window.faults;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(seen);
  document.body.append(out);
});
</script>"""


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_page_in_a_browser(tmp_path, width):
    truth = world.draw_images(tmp_path, NAMES, 12)
    paths = [
        world.run(tmp_path, f"zoo_{m}", m, [NAMES[:2], NAMES[2:]], truth)
        for m in ("fvit", "clclip", "joint")
    ]
    world.store_features(tmp_path, truth, NAMES)
    page.report(paths, tmp_path / "results" / "report.html", {"examples": 3})
    text = (tmp_path / "results" / "report.html").read_text()
    probe = tmp_path / "probe.html"
    probe.write_text(text.replace("<head>", "<head>" + WATCH).replace("</body>", USE + "</body>"))
    command = [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--window-size={width},1000", "--dump-dom", probe.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(html.unescape(found[1]))
    assert seen["faults"] == []
    assert seen["up"] == ["ascending", ["1", "2", ""]]
    assert seen["down"] == ["descending", ["2", "1", ""]]
    # class, task, and after 1, after 2, lost for two methods, final for joint; then one method only
    assert seen["columns"] == [9, 5]
    right, missed, hidden = seen["default"]
    assert right > 0 and hidden == 0
    assert seen["strict"][0] < right and seen["strict"][1] > missed
    assert seen["loose"][0] >= right and seen["loose"][1] <= missed
    assert seen["truth"] > 0 and seen["named"] == 1
    for kind, (sorts, boxes, thumbs, none) in seen["kinds"].items():
        assert none == (boxes == 0), kind
        assert thumbs == 3 if none else 1 <= thumbs <= 3
        assert sorts <= (4 if kind == "wrong" else 1), kind
    assert seen["kinds"]["right"][1] > 0 and seen["kinds"]["missed"][1] > 0
    assert seen["maps"][0] == seen["maps"][2] == 1
    assert seen["maps"][1] != seen["maps"][3]
    assert seen["thumb"] == ["true", 1]
    assert seen["theme"]
    assert seen["wide"] <= 0, "the page scrolls sideways"
