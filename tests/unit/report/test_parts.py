"""The parts of the report that show images, maps and charts."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from clclip.report import charts, page
from clclip.report.benchmark import curve, load
from clclip.report.sections import cost_maps, gallery, timing
from clclip.report.sections.answers import answers
from tests.helpers.report import world
from tests.helpers.report.fixtures import GROUPS, NAMES


def test_gallery_shows_right_wrong_and_missed(made):
    benchmark = load(made["paths"])[0]
    shown = gallery.pictures(benchmark, made["root"] / "resources", 5)
    assert len(shown) == 5 == len({p.title for p in shown})
    for picture in shown:
        assert [len(row) for row in picture.rows] == [4, 4]
        assert picture.rows[0][3] == [] and picture.rows[1][3][0].experiment.joint
        assert [panel.seed for panel in picture.rows[1][0]] == [0, 1]
        for panel in [panel for row in picture.rows for cell in row for panel in cell]:
            states = {box.state for box in panel.boxes}
            assert states <= {"right", "wrong", "object", "truth"}
            objects = [box for box in panel.boxes if box.state == "object"]
            # Objects of classes that are not seen yet are no misses.
            seen = {n for group in GROUPS[: panel.task] for n in group}
            if not panel.experiment.joint:
                assert {box.name for box in objects} <= seen
            hits = [box.score for box in objects if box.score > 0]
            right = [box.score for box in panel.boxes if box.state == "right"]
            assert sorted(right) == sorted(s for s in hits if s >= gallery.LEAST_SCORE)
        assert Image.open(made["root"] / "resources/data/zoo-1/images" / picture.title)


def test_answers_of_classifiers(made):
    benchmark = load(made["paths"])[1]
    shown = answers(benchmark, made["root"] / "resources", 6)
    assert len({one.title for one in shown}) == 6 and benchmark.shown_seeds == [0]
    task_of = {"a": 1, "b": 1, "c": 2, "d": 3}
    for one in shown:
        assert one.task == task_of[one.label] and one.uri.startswith("data:image/png")
        for experiment, own in one.answers:
            # an image is asked of only from the task on that brought its class
            assert [a.task for a in own] == list(range(one.task, 4))
            written = json.loads((experiment.task_dir(3) / "predictions.json").read_text())
            row = written["probabilities"][written["images"].index(int(one.title[:-4]))]
            best = written["classes"][int(np.argmax(row))]
            assert own[-1].name == best and own[-1].score == pytest.approx(100 * max(row))
            apart = task_of[best] - task_of[one.label]
            kinds = {0: "same task", -1: "earlier task", 1: "later task"}
            assert own[-1].mistake == ("" if best == one.label else kinds[int(np.sign(apart))])
            assert (own[-1].mistake or "right") in one.outcomes()
    # half of the images are those of which the methods differ
    ends = [[own[-1].mistake == "" for _, own in one.answers] for one in shown[:3]]
    assert all(any(row) and not all(row) for row in ends)
    assert answers(load(made["paths"])[0], made["root"] / "resources", 6) == []


def test_missing_images_of_classifiers_leave_a_sentence(copy, no_figures):
    root, paths = copy
    (root / "resources" / "data" / "birds-1" / "images" / "0.png").unlink()
    shutil.rmtree(root / "resources" / "data" / "birds-1" / "images")
    page.report(paths[4:], root / "results" / "report.html", {"examples": 2})
    html = (root / "results" / "report.html").read_text()
    assert "The test images are not shown" in html and 'class="data answers"' not in html


def test_seeds_that_not_all_have_are_not_shown(made):
    benchmark = load(made["paths"])[0]
    assert benchmark.shown_seeds == [0, 1]
    benchmark.experiments[0].summary["seeds"] = [1, 2, 3]
    assert benchmark.shown_seeds == [1]
    benchmark.experiments[0].summary["seeds"] = [7]
    assert benchmark.shown_seeds == [None]


def test_cost_of_a_rerun(made):
    rows = {row.name: row for row in timing.reruns(made["root"] / "results", ["zoo_fvit", "none"])}
    # per seed and task: 41.5 + 9 t of training, 3.2 and 0.6; two seeds
    both = [2 * (50.5 + 3.8), 2 * (59.5 + 3.8)]
    assert list(rows) == ["zoo_fvit"]
    assert rows["zoo_fvit"].from_task == [pytest.approx(sum(both)), pytest.approx(both[1])]
    assert rows["zoo_fvit"].scores == pytest.approx(2 * 2 * 0.6)
    assert "What a rerun costs" in made["html"] and "From task 2" in made["html"]


def test_gallery_of_a_long_stream_shows_four_tasks(made):
    benchmark = load(made["paths"])[1]
    experiment = benchmark.experiments[0]
    experiment.summary["tasks"] = [{"task": t} for t in range(1, 11)]
    assert gallery.steps(experiment) == [1, 4, 7, 10]


def test_missing_images_leave_a_sentence(copy, no_figures):
    root, paths = copy
    shutil.rmtree(root / "resources" / "data")
    page.report(paths, root / "results" / "report.html", {"examples": 2})
    html = (root / "results" / "report.html").read_text()
    assert "The test images are not shown: no such" in html
    assert "Who wins" in html


def test_missing_predictions_and_features_leave_sentences(copy, no_figures):
    root, paths = copy
    for path in (root / "results").rglob("predictions.json"):
        path.unlink()
    shutil.rmtree(root / "resources" / "features")
    page.report(paths, root / "results" / "report.html", {})
    html = (root / "results" / "report.html").read_text()
    assert "There is no feature store" in html
    assert ">Why<" not in html


def test_cost_maps_show_where_a_class_is(made):
    benchmark = load(made["paths"])[0]
    shown = cost_maps.cost_maps(benchmark, made["root"] / "resources")
    assert len(shown) == cost_maps.IMAGES
    assert shown[0].low == pytest.approx(0.02, abs=1e-3)
    assert shown[0].high == pytest.approx(0.4, abs=1e-3)
    assert [one.name for one in shown[0].classes if not one.present]
    present = [one for one in shown[0].classes if one.present]
    assert present and sorted(one.name for one in shown[0].classes) == sorted(NAMES)
    assert shown[0].classes[: len(present)] == present, "classes of the image come first"
    flat = cost_maps.picture(np.zeros((16, 16)))
    assert all((one.cost == flat) != one.present for one in shown[0].classes)
    assert {one.gate for one in shown[0].classes} == {""}, "no weights, no gate"
    assert shown[0].owner.summary["method"] == "clclip"
    for one in shown[0].classes:
        assert all(box.name == one.name and box.score >= 0.5 for box in one.boxes)
    assert sum(len(one.boxes) for one in shown[0].classes) > 0


def test_gate_is_that_of_the_detector(copy):
    import torch
    from safetensors.numpy import save_file

    from clclip.detection.methods.clclip.gate import Gate

    root, paths = copy
    benchmark = load(paths)[0]
    experiment = next(e for e in benchmark.experiments if e.summary["method"] == "clclip")
    task = json.loads((experiment.task_dir(2) / "task.json").read_text())
    assert cost_maps.gate_of(experiment, task) is None, "no weights"
    gate = Gate("sigmoid")
    with torch.no_grad():
        gate.log_slope.fill_(2.5)
        gate.middle.fill_(0.17)
    tensors = {f"gate.{name}": value.detach().numpy() for name, value in gate.named_parameters()}
    save_file(tensors, experiment.task_dir(1) / "weights.safetensors")
    cost = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    expected = gate(torch.from_numpy(cost)[None, None])[0, 0].detach().numpy()
    assert cost_maps.gate_of(experiment, task)(cost) == pytest.approx(expected, abs=1e-6)
    task["switches"] = {"gate": "minmax"}
    expected = Gate("minmax")(torch.from_numpy(cost)[None, None])[0, 0].numpy()
    assert cost_maps.gate_of(experiment, task)(cost) == pytest.approx(expected, abs=1e-6)
    for switches in ({"gate": "softmax"}, {"gate": "sigmoid", "refiner": True}):
        assert cost_maps.gate_of(experiment, task | {"switches": switches}) is None
    assert cost_maps.gate_of(benchmark.upper, task | {"switches": {}}) is None
    assert cost_maps.cost_maps(benchmark, root / "resources")[0].gated


@pytest.mark.parametrize(
    ("box", "name", "kind"),
    [
        ([0, 0, 40, 40], "blue disc", "wrong class"),
        ([20, 0, 40, 40], NAMES[0], "localisation"),
        ([2, 0, 40, 40], NAMES[0], "duplicate"),
        ([80, 80, 20, 20], NAMES[0], "background"),
    ],
)
def test_kinds_of_error(tmp_path, box, name, kind):
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 5 + k, "name": n} for k, n in enumerate(NAMES)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40]}],
    }
    names = {c["id"]: c["name"] for c in truth["categories"]}
    task = {"kind": "detection", "method": "fvit", "seed": 0, "task": 1, "groups": [NAMES]}
    world.write(tmp_path / "task.json", task | world.REST)
    rows = [{"image_id": 1, "category_id": 5, "bbox": [0, 0, 40, 40], "score": 0.9}]
    rows.append({"image_id": 1, "category_id": 5 + NAMES.index(name), "bbox": box, "score": 0.8})
    world.write(tmp_path / "predictions.json", rows)
    boxes = gallery.boxes_of(gallery.view(tmp_path, truth), 1, names)
    assert [(b.state, b.mistake) for b in boxes] == [("right", ""), ("wrong", kind), ("object", "")]


@pytest.mark.parametrize(
    ("size", "cells"), [((128, 128), (16, 16)), ((200, 100), (16, 8)), ((50, 100), (8, 16))]
)
def test_padding_is_cut_from_the_maps(size, cells):
    assert cost_maps.visible(*size, 128, 8) == cells


def test_figures_lie_beside(made):
    names = sorted(path.name for path in (made["out"].parent / "figures").iterdir())
    assert len(names) == 4
    for path in (made["out"].parent / "figures").iterdir():
        ElementTree.parse(path)
    assert "detection_zoo_3_3_curves.svg" in names


def test_figures_of_like_settings_have_different_names(copy):
    from clclip.report.figures import stems

    _, paths = copy
    summary = json.loads(paths[0].read_text())
    paths[0].write_text(json.dumps(summary | {"metric": "AP[.50:.95]"}))
    names = stems(load(paths))
    assert len(set(names)) == 3


def test_curves_of_two_tasks_start_where_classes_were_learned(made):
    benchmark = load(made["paths"])[0]
    tasks = benchmark.experiments[0].summary["tasks"]
    points = curve(benchmark, benchmark.experiments[0], "P")
    assert points == [(1, tasks[0]["C"]), (2, tasks[1]["P"])]
    assert curve(benchmark, benchmark.upper, "P") == [(1, benchmark.upper.summary["final"]["P"])]
    longer = load(made["paths"])[1]
    assert [task for task, _ in curve(longer, longer.experiments[0], "P")] == [2, 3]
    ElementTree.fromstring(charts.curves(benchmark, "P"))


def test_the_band_over_seeds_stays_inside_the_chart(made):
    benchmark = load(made["paths"])[0]
    best = benchmark.experiments[0]
    best.summary["per_seed"] = [{"seed": s, "curve": [v, v]} for s, v in ((0, 20.0), (1, 90.0))]
    best.summary["tasks"] = [task | {"A": 55.0} for task in best.summary["tasks"]]
    drawn = ElementTree.fromstring(charts.curves(benchmark, "A"))
    (band,) = (
        node.get("d") for node in drawn if node.get("opacity") and node.get("fill") == best.css
    )
    heights = [float(point.split()[1]) for point in band.strip("MZ").split("L")]
    wide = np.std([20, 90], ddof=1)
    assert len(set(heights)) == 2 and wide > 45, "55 ± 49.5"
    assert charts.TOP <= min(heights) and max(heights) <= charts.HEIGHT - charts.BOTTOM


def test_png_figures(made, tmp_path):
    from clclip.report.figures import write_figures

    written = write_figures(load(made["paths"])[:1], tmp_path / "figures", "png", 60)
    assert [Image.open(path).format for path in written] == ["PNG", "PNG"]


def test_report_is_the_same_every_time(made, tmp_path):
    page.report(
        made["paths"], tmp_path / "report.html", {"title": "Of <mice> & men", "examples": 4}
    )
    assert (tmp_path / "report.html").read_text() == made["html"]
    for path in (made["out"].parent / "figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


def test_titles_of_neighbouring_panels_do_not_meet(made):
    """Of a file that shows one method six times, each called by its experiment."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from clclip.report.figures import _classes

    benchmark = load(made["paths"])[0]
    for number, experiment in enumerate(benchmark.experiments):
        experiment.label = f"CL-CLIP (clutter_no_orthogonality_{number})"
    figure = _classes(benchmark)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    panels = [axis for axis in figure.axes if axis.get_title()]
    boxes = [axis.title.get_window_extent(canvas.get_renderer()) for axis in panels]
    assert len(boxes) > 2
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes)), boxes
