"""Tables of the page: copied as CSV and LaTeX, filtered, and a page of ten thousand scores."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest

from clclip.evaluation.aggregate import aggregate_experiment
from clclip.report import page

chromium = pytest.importorskip("tests.helpers.report.chromium", reason="needs the dev group")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.BROWSER is None, reason="no Chromium (apt-get install chromium)"),
]
ROWS = "".join(f"<tr><th>row {k}</th><td>{k}.5</td><td>x_{k}</td></tr>" for k in range(20))
PAGE = f"""<!doctype html><meta charset="utf-8">
<style>{(page.HERE / "page.css").read_text()}</style>
<div class="scroll"><table id="one">
<thead><tr><th>Method</th><th>A, %</th><th>95 %</th></tr></thead><tbody>
<tr><th><span>50 % &amp; {{more}}</span><br><small>my_name</small></th>
<td>−1.5 ± 0.2</td><td>"a", b</td></tr>
<tr><th>none</th><td>–</td><td hidden>secret</td><td>2</td></tr></tbody></table></div>
<div class="scroll"><table id="two" class="heat">
<thead><tr><th rowspan="2">Class</th><th colspan="2">ours</th></tr>
<tr><th>1</th><th>2</th></tr></thead><tbody>{ROWS}</tbody></table></div>
<script>{(page.HERE / "tables.js").read_text()}</script>"""
COPIED = """(() => {
  window.got = [];
  Object.defineProperty(navigator, "clipboard", {
    value: {writeText: async (text) => { window.got.push(text); }}
  });
  document.querySelectorAll("button.copy").forEach((button) => button.click());
  return window.got;
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    one = chromium.Chromium(tmp_path_factory.mktemp("profile"))
    yield one
    one.close()


@pytest.fixture
def opened(browser, tmp_path):
    (tmp_path / "page.html").write_text(PAGE, encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri(), 900)
    return browser


def test_a_table_copies_as_it_is_shown(opened):
    first, latex, second, _ = opened.evaluate(COPIED)
    read = [*csv.reader(io.StringIO(first))]
    assert read[0] == ["Method", "A, %", "95 %"]
    assert read[1] == ["50 % & {more} my_name", "-1.5 ± 0.2", '"a", b']
    assert read[2] == ["none", "", "2"]  # a dash is no number; what is hidden is left out
    assert "  Method & A, \\% & 95 \\% \\\\\n" in latex
    assert "  50 \\% \\& \\{more\\} my\\_name & -1.5 $\\pm$ 0.2 & " in latex
    assert latex.startswith("\\begin{tabular}{llr}\n  \\toprule")
    rows = [*csv.reader(io.StringIO(second))]
    assert rows[0] == ["Class", "ours 1", "ours 2"] and rows[-1] == ["row 19", "19.5", "x_19"]


def test_a_long_table_filters_and_copies_what_is_left(opened):
    opened.evaluate("""(() => {
      const [box] = document.querySelectorAll("input.filter");
      box.value = "ROW 1"; box.dispatchEvent(new Event("input"));
    })()""")
    assert opened.evaluate("document.querySelectorAll('input.filter').length") == 1
    rows = [*csv.reader(io.StringIO(opened.evaluate(COPIED)[2]))]
    assert [row[0] for row in rows[1:]] == ["row 1", *(f"row {k}" for k in range(10, 20))]


def many(root, experiments=10, seeds=5, tasks=20, classes=200):
    """Write the summaries of many experiments; return their paths."""
    rng, step = random.Random(0), classes // tasks
    names = [f"class number {k:03d}" for k in range(classes)]
    groups = [names[t * step : (t + 1) * step] for t in range(tasks)]
    methods = "finetune hpeft seca seca_cov ranpac ridge gda zeroshot ncm vis".split()
    paths = []
    for method in methods[:experiments]:
        folder, found = root / "results" / f"many_{method}", []
        for seed in range(seeds):
            matrix = [
                [round(rng.uniform(20, 90), 2) if j <= i else None for j in range(tasks)]
                for i in range(tasks)
            ]
            rows = []
            for t in range(tasks):
                scores = {name: round(rng.uniform(0, 100), 1) for name in names[: (t + 1) * step]}
                earlier = sum(matrix[t][:t]) / t if t else None
                seen = sum(scores.values()) / len(scores)
                row = {"task": t + 1, "P": earlier, "C": matrix[t][t], "A": seen}
                rows.append(row | {"per_class": scores})
            final = {part: rows[-1][part] for part in "PCA"}
            told = {"experiment": folder.name, "kind": "classification", "method": method}
            told |= {"dataset": "birds", "protocol": "20x10", "seeds": [seed], "groups": groups}
            told |= {"tasks": rows, "final": final, "forgetting": 9.5, "average": final["A"]}
            told |= {"matrix": matrix, "metric": "accuracy", "image_rule": "overlap"}
            told |= {"images": "full", "interval": [1.0, 2.0], "empty_classes": [], "versions": {}}
            path = folder / f"seed{seed}" / "summary.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(told))
            found.append(path)
        aggregate_experiment(found, folder / "summary.json")
        paths.append(folder / "summary.json")
    return paths


def test_ten_experiments_of_twenty_tasks_and_two_hundred_classes(browser, tmp_path):
    out = tmp_path / "results" / "report.html"
    page.report(many(tmp_path), out, {"title": "many"})
    assert out.stat().st_size < 15e6
    browser.send("Performance.enable")
    spent = {}
    for width in (390, 820, 1400):
        before = processor(browser)
        browser.open(out.as_uri(), width)
        fits = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert browser.evaluate(fits), width
        spent[width] = processor(browser) - before
    # of the processor, because another program beside it is no fault of the page
    assert sorted(spent.values())[1] <= 2.0, spent
    assert browser.evaluate("document.querySelectorAll('table.heat tbody tr').length") == 200
    faults = [e for e in browser.events if e[0] == "Runtime.exceptionThrown"]
    assert not faults


def processor(browser):
    """Return the seconds that the browser's page has computed."""
    metrics = browser.send("Performance.getMetrics")["metrics"]
    return next(row["value"] for row in metrics if row["name"] == "ProcessTime")
