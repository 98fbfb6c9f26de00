"""``clclip export --onnx`` of a detector: the file in a process that has no torch and no clclip."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import clclip
from clclip.cli.main import main
from clclip.model.onnx import detection as exporting
from clclip.model.onnx.agreement import every_pair, in_float32, probes
from clclip.model.onnx.writing import FILE

PAGE = Path(__file__).parents[4] / "docs/can-i.md"


def script_of_the_docs() -> str:
    """The snippet by which the documentation runs a detector without torch."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if "letterboxed" in block)


def test_missing_packages_come_before_any_work(boxes_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    out = tmp_path / "model"
    assert main(["export", "--run", str(boxes_run), "--out", str(out), "--onnx"]) == 2
    said = capsys.readouterr().err
    assert "the package onnxscript is missing" in said and said.count("\n") == 1
    assert not out.exists()


@pytest.mark.slow
def test_onnxruntime_alone_finds_what_the_model_finds(cards_model, boxes_run, tmp_path):
    out, work = tmp_path / "model", tmp_path / "work"
    assert main(["export", "--run", str(cards_model), "--out", str(out), "--onnx"]) == 0
    model = clclip.load_model(out, device="cpu", resources=boxes_run.parents[2] / "resources")
    assert FILE in model.card["files"]
    pictures = sorted((boxes_run.parents[2] / "boxes/images").glob("*.png"))[:4]
    work.mkdir()
    Image.new("RGB", (50, 90), "#808080").save(work / "blank.png")
    pictures.append(work / "blank.png")
    Image.open(pictures[0]).save(tmp_path / "photo.jpg")
    script = script_of_the_docs() + (
        "\nimport sys\n"
        "rows = [detect(path) for path in sys.argv[2:]]\n"
        "sizes = [Image.open(path).size for path in sys.argv[2:]]\n"
        "batch, sizes = map(np.concatenate, zip(*map(letterboxed, sys.argv[2:])))\n"
        "rows.append(session.run(None, {'images': batch, 'sizes': sizes}))\n"
        "np.savez(sys.argv[1], *[part for row in rows for part in row])\n"
        "assert not {'torch', 'torchvision', 'clclip'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", script, str(work / "rows.npz"), *map(str, pictures)]
    subprocess.run(command, check=True, cwd=tmp_path)
    parts = list(np.load(work / "rows.npz").values())
    rows = [parts[k : k + 4] for k in range(0, len(parts), 4)]
    with every_pair(model.detector):
        answers = model(pictures, threshold=0.0)
    assert sum(map(len, answers)) > 20
    for number, (one, answer) in enumerate(zip(rows[:-1], answers, strict=True)):
        mine = rows[-1][3] == number
        for boxes, scores, classes in (one[:3], [part[mine] for part in rows[-1][:3]]):
            assert classes.tolist() == answer.labels.tolist()
            np.testing.assert_allclose(scores, answer.scores, atol=1e-3)
            np.testing.assert_allclose(boxes, answer.boxes, atol=0.05)
    about = metadata_of(out / FILE)
    assert json.loads(about["names"]) == model.classes
    assert json.loads(about["thresholds"]) == model.thresholds
    assert json.loads(about["preprocessing"])["side"] == model.features.size


def metadata_of(path):
    import onnxruntime

    return onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map


def test_a_model_of_bf16_is_held_against_a_file_in_float32(cards_model, boxes_run):
    home = boxes_run.parents[2] / "resources"
    model = clclip.load_model(cards_model, device="cpu", resources=home)
    picture = [*probes(model.features.size)[:2]]
    wanted = [answer.scores.tolist() for answer in model(picture, threshold=0.0)]
    plan = model.plan = {**model.plan, "training": model.plan["training"] | {"precision": "bf16"}}
    half = [answer.scores.tolist() for answer in model(picture, threshold=0.0)]
    with in_float32(model):
        assert [answer.scores.tolist() for answer in model(picture, threshold=0.0)] == wanted
    assert model.plan is plan and half != wanted


@pytest.mark.slow
def test_a_file_that_disagrees_is_refused_and_nothing_is_written(
    cards_model, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(exporting, "agreement", lambda *given: 0.98)
    out = tmp_path / "model"
    assert main(["export", "--run", str(cards_model), "--out", str(out), "--onnx"]) == 2
    said = capsys.readouterr().err
    errors = [line for line in said.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "agrees with torch in 98.0% of detections" in errors[0]
    assert len(said.splitlines()) < 10  # the exporter's passes do not report one by one
    assert not out.exists()
