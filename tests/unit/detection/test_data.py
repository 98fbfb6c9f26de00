"""Batches of features with labels, views of images, weight files, detect and export."""

from __future__ import annotations

import json
import threading

import pytest
import torch
from safetensors.torch import save_file

from clclip.clip.canvas import letterbox
from clclip.core.errors import InputError
from clclip.detection.inputs.dataset import FeatureBatches, LabelledImage, read_labels
from clclip.detection.inputs.views import image_boxes, jittered, letterboxed, render
from clclip.detection.layers.batch import Batch
from clclip.detection.stages.train import coco_results
from clclip.detection.weights import load_chain, read_weights, save_weights
from clclip.training.fit import FitSettings
from clclip.training.seeds import generator
from tests.helpers.detection import NAMES, clclip

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.full((3, 1, 1), 0.25)


def test_labels_are_columns_of_the_classes_asked_for(tmp_path):
    split = {
        "images": [{"id": 7, "file_name": "a.png", "width": 40, "height": 20}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 30, "bbox": [1, 2, 3, 4], "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 10, "bbox": [5, 6, 7, 8], "iscrowd": 0},
            {"id": 3, "image_id": 7, "category_id": 10, "bbox": [0, 0, 9, 9], "iscrowd": 1},
        ],
        "categories": [{"id": 10, "name": "ace"}, {"id": 30, "name": "jack"}],
    }
    path = tmp_path / "train.json"
    path.write_text(json.dumps(split))
    image = read_labels(path, ["jack", "ace"])[0]
    assert image.labels.tolist() == [0, 1]
    assert image.boxes.tolist() == [[1, 2, 4, 6], [5, 6, 12, 14]]
    assert image.ignore.tolist() == [[0, 0, 9, 9]]
    assert read_labels(path, [])[0].labels.tolist() == []
    with pytest.raises(InputError, match="king"):
        read_labels(path, ["king"])


def picture(width=60, height=30):
    g = generator("picture", width, height)
    return torch.randint(0, 256, (3, height, width), generator=g, dtype=torch.uint8)


@pytest.mark.parametrize("flip", [False, True])
def test_a_letterboxed_view_is_the_canvas_of_the_feature_store(flip):
    image = picture()
    view = letterboxed(60, 30, 32, flip)
    mean, std = MEAN.flatten().tolist(), STD.flatten().tolist()
    assert torch.equal(render(image, view, 32, MEAN, STD), letterbox(image, 32, mean, std, flip))


@pytest.mark.parametrize("kind", ["plain", "flip", "lsj"])
def test_boxes_follow_the_pixels(kind):
    """A bright rectangle on black must lie where its box is said to lie, in every view."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[:, 20:40, 10:50] = 255
    box = torch.tensor([[10.0, 20.0, 50.0, 40.0]])
    for number in range(8):
        draws = generator("view", number)
        if kind == "lsj":
            view = jittered(80, 60, 64, bool(number % 2), draws)
        else:
            view = letterboxed(80, 60, 64, kind == "flip")
        canvas = render(image, view, 64, torch.zeros(3, 1, 1), torch.ones(3, 1, 1))[0]
        x0, y0, x1, y1 = view.boxes(box)[0].tolist()
        if min(x1 - x0, y1 - y0) < 2:
            assert canvas.mean() < 0.2
            continue
        rows, columns = torch.where(canvas > 0.5)
        found = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert [float(v) for v in found] == pytest.approx([x0, y0, x1, y1], abs=1.5)


class Source:
    """Features that tell which image was read, and how."""

    size, stride, width = 64, 8, 4

    def canvases(self, ids, views):
        self.asked = list(zip(ids, views, strict=True))
        self.threads = [*getattr(self, "threads", []), threading.current_thread().name]
        return torch.tensor(ids, dtype=torch.float32).view(-1, 1, 1, 1)

    def features(self, rows):
        return Batch((rows.expand(-1, 4, 8, 8),), rows.expand(-1, 4, 8, 8), None)


def labelled(number):
    box = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
    return LabelledImage(number, 64, 64, box, torch.tensor([0]), torch.zeros(0, 4))


def test_an_images_draws_do_not_depend_on_its_batch():
    images = [labelled(n) for n in range(12)]
    batches = FeatureBatches(images, Source(), (3, 1), "flip")
    together = batches.training(2, list(range(12)))
    flips = [view.flip for _, view in batches.source.asked]
    assert 0 < sum(flips) < 12
    for n in (0, 5, 11):
        alone = batches.training(2, [n])
        assert batches.source.asked[0][1].flip == flips[n]
        assert torch.equal(alone.targets[0]["boxes"], together.targets[n]["boxes"])
        first = torch.rand(3, generator=alone.generators[0])
        assert torch.equal(first, torch.rand(3, generator=together.generators[n]))
    batches.training(3, list(range(12)))
    assert [view.flip for _, view in batches.source.asked] != flips  # another epoch, other draws
    assert sorted(batches.order(0)) == list(range(12)) != batches.order(0) != batches.order(1)
    plain = FeatureBatches(images, Source(), (3, 1), "none")
    plain.training(2, list(range(12)))
    assert not any(view.flip for _, view in plain.source.asked)


def test_batches_made_ahead_equal_those_made_when_asked_for(monkeypatch):
    images = [labelled(n) for n in range(12)]
    plain = FeatureBatches(images, Source(), (3, 1), "lsj")
    monkeypatch.setenv("CLCLIP_SPEED", '{"prefetch": 2}')
    ahead = FeatureBatches(images, Source(), (3, 1), "lsj")
    parts = [(0, [0, 5]), (0, [7, 2, 1]), (1, [0, 5])]
    for part in (parts[0], parts[2], parts[1]):  # another order than they are asked for
        ahead.submit(*part)
        ahead.submit(*part)
        plain.submit(*part)  # without prefetch: nothing
    for part in [*parts, (4, [3])]:
        own, other = ahead.training(*part), plain.training(*part)
        assert torch.equal(own.dense, other.dense)
        assert own.canvas.image_sizes == other.canvas.image_sizes
        for a, b in zip(own.targets, other.targets, strict=True):
            assert torch.equal(a["boxes"], b["boxes"])
        for a, b in zip(own.generators, other.generators, strict=True):
            assert torch.equal(torch.rand(2, generator=a), torch.rand(2, generator=b))
    assert set(plain.source.threads) == {"MainThread"}
    assert sorted(name.split("_")[0] for name in ahead.source.threads) == ["MainThread"] + 3 * [
        "prefetch"
    ]
    ahead.close()
    monkeypatch.setattr(Source, "canvases", lambda *_: 1 / 0)
    broken = FeatureBatches(images, Source(), (3, 1))
    broken.submit(0, [1])
    with pytest.raises(ZeroDivisionError):  # told where the batch is asked for
        broken.training(0, [1])


def test_results_return_to_the_images_own_pixels_and_ids():
    found = {
        "boxes": torch.tensor([[10.0, 20.0, 30.0, 60.0]]),
        "scores": torch.tensor([0.5]),
        "labels": torch.tensor([1]),
    }
    assert coco_results(9, found, [44, 71], scale=0.5, size=(64, 128)) == [
        {"image_id": 9, "category_id": 71, "bbox": [20.0, 40.0, 40.0, 80.0], "score": 0.5}
    ]


@pytest.mark.parametrize("size", [(5000, 1), (1, 3000), (3000, 40), (333, 500), (1, 1)])
def test_boxes_of_thin_images_lie_inside(size):
    """The canvas shows at least one row: divided by the scale it is taller than the image."""
    view = letterboxed(*size, 128)
    whole = torch.tensor([[0.0, 0.0, view.width, view.height]])
    found = {"boxes": whole, "scores": torch.tensor([0.5]), "labels": torch.tensor([0])}
    (row,) = coco_results(1, found, [1], view.scale, size)
    assert row["bbox"][:2] == [0, 0]
    for side, length in zip(row["bbox"][2:], size, strict=True):
        assert length - 1 / view.scale < side <= length
    assert float(image_boxes(whole, view.scale, size).max()) <= max(size)


def test_boxes_inside_an_image_are_only_divided():
    corners = torch.rand(200, 2, generator=generator("inside")) * 60
    boxes = torch.cat([corners, corners + 60], dim=1)  # of a 128 px canvas
    scale = 128 / 500
    assert torch.equal(image_boxes(boxes, scale, (500, 480)), boxes / scale)


def test_the_optimization_counts_in_steps():
    training = {
        "epochs": 4,
        "min_steps": 0,
        "lr": 0.1,
        "batch_size": 8,
        "optimizer": "sgd",
        "weight_decay": 0.0,
        "warmup_steps": 50,
        "schedule": "multistep",
        "milestones": [0.5, 0.75],
        "grad_clip": None,
    }
    settings = FitSettings.of(training, 10)
    assert (settings.steps, settings.milestones, settings.warmup_steps) == (40, (20, 30), 10)
    assert settings.grad_clip == 0.0
    short = FitSettings.of(training | {"min_steps": 120}, 9)  # nine steps an epoch: a class alone
    assert (short.steps, short.milestones) == (126, (63, 94))  # whole epochs
    assert FitSettings.of(training | {"min_steps": 120}, 31).steps == 124
    assert FitSettings.of(training | {"min_steps": 120, "epochs": 0}, 9).steps == 0


def test_weights_round_trip_and_later_files_win(tmp_path):
    model = clclip([NAMES[:3]])
    full = {name: value for name, value in model.state_dict().items()}
    save_weights(tmp_path / "1.safetensors", full, {"digest": "x"})
    later = {"gate.middle": torch.tensor(0.7)}
    save_weights(tmp_path / "2.safetensors", later, {})
    other = clclip([NAMES[:3]], seed=1)
    load_chain(other, [tmp_path / "1.safetensors", tmp_path / "2.safetensors"])
    assert other.gate.middle.item() == pytest.approx(0.7)
    assert torch.equal(other.banks[0].convs[0], model.banks[0].convs[0])
    _, metadata = read_weights(tmp_path / "1.safetensors")
    assert metadata["digest"] == "x" and "torch" in metadata


def test_equal_weights_make_equal_files(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.uint8)}
    keys = [f"key {n}" for n in range(9)]
    for n, order in enumerate((keys, keys[::-1])):
        save_weights(tmp_path / f"{n}.safetensors", tensors, dict.fromkeys(order, "é"))
    assert (tmp_path / "0.safetensors").read_bytes() == (tmp_path / "1.safetensors").read_bytes()
    read, metadata = read_weights(tmp_path / "0.safetensors")
    assert torch.equal(read["b"], tensors["b"]) and torch.equal(read["a"], tensors["a"])
    assert metadata["key 3"] == "é"


@pytest.mark.parametrize("damage", ["missing", "truncated", "text", "shape", "unknown", "lacking"])
def test_weights_of_something_else_are_refused(tmp_path, damage):
    model = clclip([NAMES[:3]])
    state = dict(model.state_dict())
    path = tmp_path / "w.safetensors"
    if damage == "shape":
        state["gate.middle"] = torch.zeros(2)
    if damage == "unknown":
        state["else"] = torch.zeros(2)
    if damage == "lacking":
        del state["gate.middle"]
    if damage != "missing":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-9])
    if damage == "text":
        path.write_text("hello")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError, match=r"w\.safetensors, expected"):
        load_chain(model, [path])
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
