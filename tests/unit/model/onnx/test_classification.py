"""``clclip export --onnx``: a classifier with its tower, from pixels to probabilities."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import clclip
from clclip.classification.closed_form.heads import Linear
from clclip.classification.closed_form.joining import Balance
from clclip.classification.closed_form.learner import Maps, Solved
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.cli.main import main
from clclip.model import onnx as exporting
from clclip.model.onnx import ByFeatures


@pytest.mark.parametrize("hidden", [0, 50])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("halves", ["one", "text", "joined"])
def test_solved_classifiers_in_torch_are_those_in_numpy(hidden, normalise, halves):
    draws = np.random.default_rng(0)

    def linear(width):
        return Linear(draws.normal(size=(width, 5)), draws.normal(size=5), 3.0)

    maps = Maps(ClosedFormOptions(hidden=hidden, normalise=normalise), 0, 12)
    text = draws.normal(size=(5, 12))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    given = {
        "one": {},
        "text": {"text": text, "balance": Balance(0.1, 0.7)},
        "joined": {"plain": linear(12), "balance": Balance(0.3, 0.6)},
    }[halves]
    solved = Solved(maps, linear(hidden or 12), **given)
    features = draws.normal(size=(2, 7, 12)).astype(np.float32)
    own = np.exp(solved.log_probabilities(features))
    found = ByFeatures(solved)(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(found, own, atol=1e-12)


def test_a_detector_is_refused_and_nothing_is_written(boxes_run, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["export", "--run", str(boxes_run), "--out", str(out), "--onnx"]) == 2
    said = capsys.readouterr().err
    assert "a detector, in --onnx, expected a classifier" in said and said.count("\n") == 1
    assert not out.exists()


def test_missing_packages_are_told_before_any_work(boxes_run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    words = ["export", "--run", str(boxes_run), "--out", str(tmp_path / "model"), "--onnx"]
    assert main(words) == 2
    assert "the package onnxscript is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_onnxruntime_alone_gives_the_model_s_answers(folders_run, tmp_path):
    """The file is read by a process that has no torch and no clclip, at any number of images."""
    out = tmp_path / "model"
    words = ["export", "--run", str(folders_run), "--out", str(out), "--onnx"]
    assert main(words) == 0
    model = clclip.load_model(out, device="cpu")  # its card names the file, whose digest holds
    assert "model.onnx" in model.card["files"]
    session = onnxruntime.InferenceSession(str(out / exporting.FILE))
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["names"]) == model.classes
    steps = json.loads(told["preprocessing"])
    assert {"side", "mean", "std", "resize_mode", "interpolation"} <= steps.keys()
    pictures = sorted((folders_run.parents[2] / "folders/test").rglob("*.png"))[:5]
    side = steps["side"]
    images = [np.asarray(Image.open(p).convert("RGB").resize((side, side))) for p in pictures]
    np.save(tmp_path / "images.npy", np.stack(images).transpose(0, 3, 1, 2))
    script = (
        "import sys, numpy as np, onnxruntime as o\n"
        "s = o.InferenceSession(sys.argv[1])\n"
        "x = np.load(sys.argv[2])\n"
        "rows = [s.run(None, {'images': x[k:k + n]})[0] for k, n in ((0, 5), (0, 1), (1, 4))]\n"
        "np.save(sys.argv[3], np.concatenate(rows))\n"
        "assert not {'torch', 'clclip'} & set(sys.modules)\n"
    )
    files = [str(out / exporting.FILE), str(tmp_path / "images.npy"), str(tmp_path / "rows.npy")]
    subprocess.run([sys.executable, "-c", script, *files], check=True)
    rows = np.load(tmp_path / "rows.npy")
    np.testing.assert_allclose(rows[:5], rows[5:], atol=1e-5)
    own = np.stack([answer.probabilities for answer in model(images)])
    np.testing.assert_allclose(rows[:5], own, atol=1e-4)
