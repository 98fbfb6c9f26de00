"""The report of made-up runs: what it says, what it holds, what it survives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from clclip.core.errors import InputError
from clclip.evaluation.calibration import calibration
from clclip.report import page
from clclip.report.benchmark import load, retention
from clclip.report.sections import table, timing
from clclip.report.sections.calibration import trust
from clclip.report.sections.causes import why
from clclip.report.sections.heatmap import heatmap, scale_of
from tests.helpers.report import world
from tests.helpers.report.fixtures import GROUPS, NAMES


class Tags(HTMLParser):
    """Checks that tags close in order, and keeps addresses and ids."""

    VOID = frozenset(("meta", "link", "input", "img", "br"))

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.ids = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[key] for key in ("href", "src", "xlink:href") if key in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            assert values.get("alt"), "an image without a text"
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_well_formed_and_needs_no_network(made):
    tags = Tags()
    tags.feed(made["html"])
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))
    inner = {address[1:] for address in tags.addresses if address.startswith("#")}
    assert inner <= set(tags.ids)
    assert all(a.startswith(("#", "data:")) for a in tags.addresses)
    assert not re.search(r"https?://|@import|url\(", made["html"])
    assert "default-src 'none'" in made["html"]
    assert len(made["html"]) < 15 * 2**20


def test_names_are_escaped(made):
    assert "<b>disc</b>" not in made["html"]
    assert "red &lt;b&gt;disc&lt;/b&gt; &amp; co" in made["html"]
    assert "<title>Of &lt;mice&gt; &amp; men</title>" in made["html"]


def test_sections_come_in_the_order_of_questions(made):
    words = ["Who wins", "How it evolves", "Which classes suffered", "Why", "Look", "frozen CLIP"]
    places = [made["html"].index(f">{word}" if word != words[-1] else word) for word in words]
    places.append(made["html"].index('<section id="run"'))
    assert places == sorted(places)


def test_what_was_run_is_told(made):
    run = made["html"][made["html"].index('<section id="run"') :]
    assert "embedded-1</code> (small), source: shipped with the package" in run
    assert "812 MiB" in run and "train" in run
    # (50.5 + 59.5) s for each of two seeds of a stream of two tasks
    assert "3 min 40 s" in run
    assert "&#34;epochs&#34;: 8" in run
    assert "faster-coco-eval" in run


def test_best_first_joint_last(made):
    detection, classification = load(made["paths"])
    assert detection.experiments[0].summary["method"] == "clclip"
    assert detection.experiments[-1].joint
    rows = table.rows(detection)
    assert [row.rank for row in rows] == [1, 2, 3, None]
    assert rows[0].difference.paired and rows[0].difference.std is not None
    per_seed = [e.per_seed() for e in (rows[0].experiment, detection.baseline)]
    gaps = [per_seed[0][seed] - per_seed[1][seed] for seed in (0, 1)]
    assert rows[0].difference.value == pytest.approx(np.mean(gaps))
    assert detection.baseline.summary["method"] == "fvit"
    assert classification.baseline.summary["method"] == "hpeft"
    assert detection.sizes == "3+3" and classification.sizes == "2+1+1"


def test_different_settings_are_not_compared(copy):
    _, paths = copy
    summary = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps(summary | {"metric": "AP[.50:.95]"}))
    assert len(load(paths)) == 3


RULES = {
    "image rule": ({"image_rule": "disjoint"}, ", image rule disjoint"),
    "fractions": (
        {"image_rule": "disjoint", "fractions": [0.875, 0.125]},
        ", image rule disjoint (0.875 + 0.125)",
    ),
    "flavour": ({"images": "group"}, ", group images"),
    "both": (
        {"images": "group", "image_rule": "non_cooccurrence"},
        ", group images, image rule non_cooccurrence",
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_other_images_are_another_table_and_named(name, copy, no_figures):
    root, paths = copy
    changes, words = RULES[name]
    usual = {benchmark.title for benchmark in load(paths)}
    summary = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps(summary | changes))
    older = json.loads(paths[1].read_text())
    assert older.pop("image_rule") == "overlap"
    paths[1].write_text(json.dumps(older))
    benchmarks = load(paths)
    assert len(benchmarks) == 3
    (own,) = (benchmark for benchmark in benchmarks if benchmark.title not in usual)
    assert own.title.endswith(f" classes{words}")
    assert [experiment.name for experiment in own.experiments] == [summary["experiment"]]
    text = page.report(paths, root / "results" / "report.html", {"examples": 0})
    assert f"{own.title}: AP50" in text
    assert f"{own.title}</h2>" in (root / "results" / "report.html").read_text()


def test_headline_says_what_the_numbers_say(made):
    benchmark = load(made["paths"])[0]
    best, rival = benchmark.contestants[0], benchmark.baseline
    text = table.headline(benchmark)
    tasks = [task["per_class"] for task in best.summary["tasks"]]
    ends = [np.mean([task[name] for name in GROUPS[0]]) for task in tasks[::-1]]
    share = f"{100 * ends[0] / ends[1]:.0f} % of its score ({ends[0]:.1f} of {ends[1]:.1f})"
    assert text.startswith(f"CL-CLIP keeps {share} on the earlier classes; F-ViT keeps")
    assert f"F-ViT keeps {retention(rival):.0f} %" in text
    assert f"{best.summary['final']['A']:.1f} mAP@A over all 6 classes" in text
    assert "below joint training" in text or "above joint training" in text
    assert table.caveat(benchmark) == "Mean ± standard deviation over 2 seeds."
    alone = load(made["paths"])[1]
    each = "One seed each:" if len(alone.experiments) > 1 else "One seed:"
    assert table.caveat(alone).startswith(each)


def test_headline_does_not_praise_a_loser(copy):
    _, paths = copy
    summary = json.loads(paths[2].read_text())  # CL-CLIP
    summary["final"]["A"] = 1.0
    paths[2].write_text(json.dumps(summary))
    benchmark = load(paths)[0]
    assert not table.headline(benchmark).startswith("CL-CLIP")
    assert benchmark.contestants[-1].summary["method"] == "clclip"


def test_text_table(made):
    lines = made["text"].splitlines()
    assert (made["out"].parent / "table.txt").read_text() == made["text"]
    first = next(line for line in lines if line.startswith("1"))
    assert "CL-CLIP" in first and "±" in first
    assert any("Joint training (upper bound)" in line for line in lines)
    said = table.headline(load(made["paths"])[0])
    assert said in " ".join(made["text"].split()), "what the numbers say stands below them"
    assert "mAP@P" in made["text"] and "Accuracy A" in made["text"]


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [(None, None, "–"), (12.34, None, "12.3"), (-1.26, None, "−1.3"), (50, 1.25, "50.0 ± 1.2")],
)
def test_numbers(value, std, text):
    assert table.number(value, std) == text
    assert table.number(3.0, sign=True) == "+3.0"
    assert table.number(-0.01) == "0.0"


def test_heat_map_holds_every_score(made):
    benchmark = load(made["paths"])[0]
    heat = heatmap(benchmark)
    assert [line.name for line in heat.lines] == NAMES
    best = benchmark.experiments[0]
    cells, lost = heat.lines[0].cells[0]
    scores = [task["per_class"][NAMES[0]] for task in best.summary["tasks"]]
    assert [cell.value for cell in cells] == scores
    assert lost == pytest.approx(scores[0] - scores[1])
    assert cells[0].new and not cells[1].new
    assert not heat.lines[-1].cells[0][0][0].seen
    assert heat.lines[-1].cells[0][1] is None


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([], (0, 50, 100)),
        ([22, 41, 55, 63, 79], (20, 55, 80)),
        ([2, 74, 76, 78, 79, 81], (0, 75, 90)),
        ([0, 100, 100, 100], (0, 90, 100)),
        ([100, 100], (80, 90, 100)),
        ([0, 0], (0, 10, 20)),
        ([44, 47], (30, 45, 60)),
    ],
)
def test_the_colour_scale_is_spent_on_the_scores_that_occur(values, scale):
    found = scale_of(values)
    assert (found.low, found.middle, found.high) == scale
    if values:
        shades = [found.shade(value) for value in sorted(values)]
        assert all(0 <= shade <= 100 for shade, _ in shades)
    assert found.shade(found.middle) == (0, "high")
    assert found.shade(found.low) == (100, "low") and found.shade(found.high) == (100, "high")


def test_causes_sum_to_the_loss(made):
    found = why(load(made["paths"])[0])
    assert found.seeds == 2 and [step.task for step in found.steps] == [2]
    (step,) = found.steps
    assert [e.label for e, _, _ in step.tables] == ["CL-CLIP", "F-ViT, current columns", "F-ViT"]
    for experiment, _, classes in step.tables:
        assert len(classes) == len(GROUPS[0])
        for name, row in classes:
            assert sum(row["causes"].values()) == pytest.approx(row["before"] - row["after"])
            scores = [task["per_class"][name] for task in experiment.summary["tasks"]]
            assert [row["before"], row["after"]] == pytest.approx(scores), "means over seeds"
    ElementTree.fromstring(step.bars)


def test_causes_after_every_later_task(tmp_path):
    truth = world.draw_images(tmp_path, NAMES, 16)
    groups = [NAMES[:2], NAMES[2:4], NAMES[4:]]
    path = world.run(tmp_path, "zoo_fvit", "fvit", groups, truth)
    benchmark = load([path])[0]
    found = why(benchmark)
    assert [step.task for step in found.steps] == [2, 3]
    for step, count in zip(found.steps, (2, 4), strict=True):
        ((_, _, classes),) = step.tables
        assert {name for name, _ in classes} == set(NAMES[:count])
        after = benchmark.experiments[0].summary["tasks"][step.task - 1]["per_class"]
        for name, row in classes:
            assert row["after"] == pytest.approx(after[name])
            assert row["lost"] == pytest.approx(sum(row["causes"].values()))
    ends = {re.findall(r">(\d+)</text>", str(step.bars))[-1] for step in found.steps}
    assert len(ends) == 1, "one scale for all tasks"


def test_calibration_is_told_for_old_and_new(made):
    for benchmark in load(made["paths"]):
        found = trust(benchmark)
        assert [t.experiment.label for t in found] == [e.label for e in benchmark.contestants]
        for one in found:
            assert set(one.groups) == {"previous", "current"}
            if one.experiment.name == "zoo_fvit":  # the seeds are pooled
                last = [one.experiment.task_dir(2, seed) / "task.json" for seed in (0, 1)]
                single = [calibration(path)["previous"].count for path in last]
                assert one.groups["previous"].count == sum(single) and min(single) > 0
            ElementTree.fromstring(one.drawn)
    assert made["html"].count("Can the scores be trusted?") == 2


def test_too_large_a_page_drops_images(made, no_figures, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(page, "render", lambda *args: "x" * 2**20 * (1 + args[-1]))
    page.report(made["paths"], tmp_path / "report.html", {"examples": 40})
    # 41, 21 and 11 MiB for 40, 20 and 10 images
    assert (tmp_path / "report.html").stat().st_size == 11 * 2**20
    assert caplog.text.count("too large") == 2


def test_last_line_of_a_log_counts(tmp_path):
    log = tmp_path / "x.log"
    log.write_text("done stage=train seconds=1.0 peak_mib=2\n" + "x" * 5000 + "\ndone stage=train "
                   "seconds=3.5 peak_mib=812\n")  # fmt: skip
    assert timing.last_done(log) == ("train", 3.5, 812.0)
    log.write_bytes(b"\xff\xfe killed")
    assert timing.last_done(log) is None
    log.write_text("done stage=train seconds=. peak_mib=2\n")
    assert timing.last_done(log) is None
    assert timing.last_done(tmp_path) is None


def test_durations():
    said = [timing.duration(seconds) for seconds in (0.94, 59.94, 60, 3599, 7260)]
    assert said == ["0.9 s", "59.9 s", "1 min 0 s", "59 min 59 s", "2 h 1 min"]


def test_bad_summaries_are_refused(tmp_path, no_figures):
    with pytest.raises(InputError, match="no summary"):
        page.report([], tmp_path / "report.html", {})
    (tmp_path / "summary.json").write_text('{"experiment": "x"}')
    with pytest.raises(InputError, match="no key 'kind'"):
        page.report([tmp_path / "summary.json"], tmp_path / "report.html", {})
    assert not (tmp_path / "report.html").exists()


def test_unknown_palette_is_refused(made, tmp_path):
    with pytest.raises(InputError, match="palette 'mauve'"):
        page.report(made["paths"], tmp_path / "report.html", {"palette": "mauve"})
    assert len(load(made["paths"], "tab10")) == 2


def test_one_experiment_of_one_task(tmp_path, no_figures):
    truth = world.draw_images(tmp_path, NAMES, 4)
    path = world.run(tmp_path, "lonely", "joint", GROUPS, truth)
    page.report([path], tmp_path / "results" / "report.html", {})
    html = (tmp_path / "results" / "report.html").read_text()
    assert "Only the upper bound was run" in html
    assert "How it evolves" not in html


def test_class_without_instances(tmp_path, no_figures):
    truth = world.draw_images(tmp_path, NAMES, 12)
    truth["annotations"] = [a for a in truth["annotations"] if a["category_id"] != 5]
    path = world.run(tmp_path, "zoo_clclip", "clclip", GROUPS, truth)
    page.report([path], tmp_path / "results" / "report.html", {})
    html = (tmp_path / "results" / "report.html").read_text()
    assert "left out of every mean: red &lt;b&gt;disc" in html


def test_report_needs_no_torch(made, tmp_path):
    code = (
        "import sys, json; from pathlib import Path; from clclip.report.page import report\n"
        "report([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), {})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code, tmp_path / "report.html", *made["paths"]], check=True
    )


def test_the_upper_bounds_card_tells_which_part_of_it_was_reached(made):
    benchmark = load(made["paths"])[0]
    best, upper = (
        benchmark.contestants[0].summary["final"]["A"],
        benchmark.upper.summary["final"]["A"],
    )
    card = next(card for card in page.cards(benchmark) if "joint training" in card["name"])
    assert card["value"] == f"{abs(upper - best):.1f}"
    assert card["than"] == f"Joint training: {upper:.1f}, {100 * best / upper:.0f} % of it"
