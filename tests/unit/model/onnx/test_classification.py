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
from clclip.classification.closed_form.learner import Solved
from clclip.classification.closed_form.maps import Maps
from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.rapf.stages import Adapted
from clclip.classification.seca.statistics import Joined
from clclip.classification.vis.mixer import Mixer
from clclip.classification.vis.stages import Vis
from clclip.classification.zeroshot.stages import ByText
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.model.onnx.classification import export_classifier
from clclip.model.onnx.solved import head_of
from clclip.model.onnx.writing import FILE
from tests.helpers.model import NAMES, draw_folders, train, write_experiment


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
    found = head_of(solved)(torch.from_numpy(features).double()).numpy()
    np.testing.assert_allclose(found, own, atol=1e-12)


def unit_rows(draws, *shape):
    rows = draws.normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def others(draws):
    """A classifier of each other kind on features (V, N, 12), or (N, 12)."""
    text = unit_rows(draws, 5, 12)
    mixer = Mixer(
        draws.uniform(0.5, 2, 2), *(draws.normal(size=s) for s in ((6, 24), 6, (12, 6), 12))
    )
    hidden = Maps(ClosedFormOptions(hidden=40, normalise=False), 3, 12)
    plain, random = Maps(ClosedFormOptions(), 0, 12), Maps(ClosedFormOptions(hidden=30), 1, 12)
    prompts = unit_rows(draws, 3, 5, 12), 20.0
    linear = {m: Linear(draws.normal(size=(m, 5)), draws.normal(size=5), 1 / m) for m in (12, 30)}
    linear[40] = Linear(draws.normal(size=(40, 5)), draws.normal(size=5), 1e-3)
    return {
        "zeroshot": ByText(text, 20.0),
        "rapf": Adapted(draws.normal(size=(12, 12)), text, 30.0),
        "vis": Vis(mixer, hidden, linear[40]),
        "seca_gda": Joined(plain, linear[12], prompts, Balance(0.0, 1.0)),
        "seca_ranpac": Joined(random, linear[30], prompts, Balance(0.4, 0.3)),
    }


@pytest.mark.parametrize("method", ["zeroshot", "rapf", "vis", "seca_gda", "seca_ranpac"])
def test_the_other_classifiers_in_torch_are_those_in_numpy(method):
    draws = np.random.default_rng(1)
    solved = others(draws)[method]
    features = draws.normal(size=(2, 7, 12))
    features = unit_rows(draws, 7, 12) if method.startswith("seca") else features
    own = np.exp(solved.log_probabilities(features))
    rows = head_of(solved)(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(rows, own, atol=1e-12)
    assert own.max(1).min() < 0.99  # there is something to differ in


def test_a_classifier_of_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=r"a classifier object, in --onnx, expected one of Solved"):
        head_of(object())


@pytest.mark.slow
def test_onnxruntime_alone_gives_the_model_s_answers(folders_run, tmp_path):
    """The file is read by a process that has no torch and no clclip, at any number of images."""
    out = tmp_path / "model"
    words = ["export", "--run", str(folders_run), "--out", str(out), "--onnx"]
    assert main(words) == 0
    model = clclip.load_model(out, device="cpu")  # its card names the file, whose digest holds
    assert "model.onnx" in model.card["files"]
    session = onnxruntime.InferenceSession(str(out / FILE))
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
    files = [str(out / FILE), str(tmp_path / "images.npy"), str(tmp_path / "rows.npy")]
    subprocess.run([sys.executable, "-c", script, *files], check=True)
    rows = np.load(tmp_path / "rows.npy")
    np.testing.assert_allclose(rows[:5], rows[5:], atol=1e-5)
    own = np.stack([answer.probabilities for answer in model(images)])
    np.testing.assert_allclose(rows[:5], own, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "switches"),
    [
        ("zeroshot", {}),
        ("rapf", {"epochs": 1}),
        ("vis", {"random_features": 50, "mixer_epochs": 1}),
        ("seca", {"classifier": "gda"}),
        ("seca_cov", {"hidden": 40}),
    ],
)
def test_a_file_of_every_kind_gives_the_model_s_answers(method, switches, tmp_path):
    draw_folders(tmp_path / "folders", NAMES)
    keys = {"kind": "classification", "tasks": [NAMES[:2], NAMES[2:4]], "switches": switches}
    if method != "seca":
        keys["training"] = {}
    run = train(write_experiment(tmp_path, "run", method=method, **keys))
    model = clclip.load_model(run, device="cpu")
    assert export_classifier(model, tmp_path / FILE) < 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / FILE))
    side = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])["side"]
    pictures = sorted((tmp_path / "folders/test").rglob("*.png"))[::5]
    images = [np.asarray(Image.open(p).convert("RGB").resize((side, side))) for p in pictures]
    (rows,) = session.run(None, {"images": np.stack(images).transpose(0, 3, 1, 2)})
    own = np.stack([answer.probabilities for answer in model(images)])
    np.testing.assert_allclose(rows, own, atol=1e-4)
