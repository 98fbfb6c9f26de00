"""What predict notes for the diagnosis: overlaps of proposals, sketches of shared modules."""

from __future__ import annotations

import json

import pytest
import torch
from torchvision.ops import box_iou

from clclip.detection.stages.probe import (
    WIDTH,
    ProposalOverlaps,
    activations,
    map_overlap,
    sketch,
    write_probe,
)
from clclip.detection.stages.recall import covered, proposals_of
from tests.helpers import detection as making

GROUPS = [making.NAMES[:3], making.NAMES[3:]]


@pytest.mark.parametrize("make", [making.fvit, making.clclip])
def test_overlaps_are_those_of_the_class_own_path(make):
    model = make(GROUPS).eval()
    data = making.batch(3, classes=6)
    proposed = model.predict(data).proposals
    found = ProposalOverlaps(len(model.shared_paths()), {"groups": GROUPS}, making.truth_of(data))
    found.match(proposed, [100, 101, 102], [2.0, 2.0, 2.0])
    proposals = [boxes for _, _, boxes in proposals_of(model, data)]
    assert len(found.best) == 6
    for n, target in enumerate(data.targets):
        for k, label in enumerate(target["labels"]):
            path = int(label) // 3 if len(proposals) == 2 else 0
            best = box_iou(target["boxes"][[k]], proposals[path][n]).max()
            assert found.best[str(10 * n + k)] == pytest.approx(float(best), abs=1e-3)
    hits = covered(proposed, data.targets)
    again = covered(proposals, data.targets)
    assert all(torch.equal(a, b) for a, b in zip(hits, again, strict=True))


def test_classes_to_come_are_left_out():
    model = making.fvit(GROUPS[:1]).eval()
    data = making.batch(4, classes=6)
    found = ProposalOverlaps(1, {"groups": GROUPS[:1]}, making.truth_of(data))
    found.match(model.predict(data).proposals, [100, 101, 102, 103], [2.0] * 4)
    seen = sum(int((target["labels"] < 3).sum()) for target in data.targets)
    assert len(found.best) == seen < 8


def test_sketches_tell_the_length_of_a_change():
    draws = torch.Generator().manual_seed(0)
    ratios = []
    for trial in range(40):
        a, b = (torch.randn(8, 5000, generator=draws) for _ in range(2))
        b = a + 0.3 * b
        one, two = (torch.tensor(sketch(f"module {trial}", v)) for v in (a, b))
        ratios.append(((two - one).norm(dim=1) / one.norm(dim=1)).mean())
        assert one.shape == (8, WIDTH)
    assert torch.stack(ratios).mean() == pytest.approx(0.3, rel=0.05)
    assert torch.stack(ratios).std() < 0.05


def test_large_maps_are_sampled_without_bias():
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(4, 2**18 + 50_000, generator=draws)
    one, two = (torch.tensor(sketch("pyramid", v)) for v in (values, 1.5 * values))
    assert ((two - one).norm(dim=1) / one.norm(dim=1)).tolist() == pytest.approx(
        [0.5] * 4, rel=1e-4
    )


def test_equal_modules_have_equal_sketches_and_changed_ones_do_not(tmp_path):
    data = making.batch(3, classes=6, labelled=False)
    model = making.clclip(GROUPS).eval()
    write_probe(tmp_path / "a.json", model, data, [5, 6, 7])
    with torch.no_grad():
        model.paths[1].fc[1].weight.mul_(1.5)
    write_probe(tmp_path / "b.json", model, data, [5, 6, 7])
    a, b = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert a["images"] == [5, 6, 7] and len(a["sketches"]) == 2
    assert a["sketches"][0] == b["sketches"][0]
    moved = {k for k in a["sketches"][1] if a["sketches"][1][k] != b["sketches"][1][k]}
    assert moved == {"fully connected", "boxes"}


@pytest.mark.parametrize("switches", [{"shared": "free"}, {"adapter": "residual"}])
def test_every_kind_of_path_can_be_probed(switches):
    model = making.clclip(GROUPS, **switches).eval()
    found = activations(model, making.batch(2, labelled=False))
    assert len(found) == len(model.paths)
    assert all(len(value) == 2 for answers in found for value in answers.values())
    assert "classifier" in activations(making.fvit(GROUPS), making.batch(2, labelled=False))[0]


def test_overlap_of_gates_by_hand():
    model = making.clclip(GROUPS, gate="off").eval()
    data = making.batch(2, labelled=False)
    with torch.no_grad():
        model.text.copy_(model.text[:1].expand_as(model.text))  # all classes alike
    found = map_overlap(model, data)
    assert found["cost volume"] == {
        part: pytest.approx(1.0, abs=1e-4) for part in ("previous", "between", "current")
    }
    # a gate that is 1 everywhere has no direction
    assert found["gate"]["between"] == pytest.approx(0.0, abs=1e-6)
    first = map_overlap(making.clclip(GROUPS[:1]).eval(), data)["gate"]
    assert first["previous"] is None and first["between"] is None and 0 < first["current"] < 1
