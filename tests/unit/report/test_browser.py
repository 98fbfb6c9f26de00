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
from pathlib import Path

import pytest

from clclip.report import page
from tests.helpers.report import world

BROWSER = next((p for n in ("chromium", "google-chrome", "chrome") if (p := shutil.which(n))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium (apt-get install chromium)"),
]
NAMES = ["red <b>disc</b>", "blue disc", "green disc", "gold disc"]
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-sync "
    "--disable-component-update --no-first-run --virtual-time-budget=4000 --enable-logging=stderr"
).split()
WATCH = """<script>
window.faults = [];
window.addEventListener("error", (e) => window.faults.push(String(e.message)));
document.addEventListener("securitypolicyviolation", (e) => window.faults.push(e.blockedURI));
</script>"""
USE = f"<script>{Path(world.__file__).with_name('use.js').read_text()}</script>"


@pytest.mark.parametrize("width", [400, 900, 1400])
def test_page_in_a_browser(tmp_path, width):
    truth = world.draw_images(tmp_path, NAMES, 12)
    groups = [NAMES[:2], NAMES[2:3], NAMES[3:]]
    paths = [
        world.run(tmp_path, f"zoo_{m}", m, groups, truth, (0, 1))
        for m in ("fvit", "clclip", "joint")
    ]
    for method, keep in (("hpeft", 0.6), ("seca", 0.95)):
        streams = [["a", "<i>b</i>"], ["c"], ["d"]]
        paths.append(world.classify(tmp_path, f"cil_{method}", method, streams, keep, (0, 1)))
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
    assert seen["faults"] == [] and "CONSOLE" not in done.stderr, done.stderr[-2000:]
    assert seen["up"] == ["ascending", ["1", "2", ""]]
    assert seen["down"] == ["descending", ["2", "1", ""]]
    # class, task, and after 1 to 3, lost for two methods, final for joint; then one method only
    assert seen["columns"] == [11, 6]
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
    assert [len(shown) for shown in seen["steps"]] == [1, 1]
    assert "by task 3" in seen["steps"][0][0] and "by task 2" in seen["steps"][1][0]
    assert seen["seeds"] == [["0"], ["1"]]
    told = seen["answers"]
    assert told["all"] == 6 and told["seed"] == ["0"] and told["other"] == ["1"]
    assert told["classes"] == ["a"]
    for count, fits, hidden in told["kinds"].values():
        assert fits and hidden == (count > 0)
    assert told["kinds"]["right"][0] > 0
    assert seen["unnamed"] == [] and seen["order"] == 0 and seen["broken"] == 0
    assert seen["theme"]
    assert seen["wide"] <= 0, "the page scrolls sideways"
