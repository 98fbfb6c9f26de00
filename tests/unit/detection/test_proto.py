"""``fvit_proto``: prototypes of old classes, taken after a task and replayed in later ones."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from clclip.detection.inputs.dataset import FeatureBatches
from clclip.detection.layers.prototypes import class_prototypes
from clclip.detection.methods import fvit_proto
from tests.helpers.detection import batch, make, snapshot
from tests.helpers.detection import step as take_step
from tests.helpers.methods import GROUPS, ToySource, labelled


def batches(images):
    """Return batches over labelled images, as the training stage makes them."""
    return FeatureBatches(images, ToySource(), (0, 1), augment="none")


def later_task(**options):
    """Return the detector at the start of task 2, with prototypes of random regions."""
    first = make("fvit_proto", GROUPS[:1], proto_fine=2, **options)
    first.begin_task()
    take_step(first, batch(classes=3))
    own = first.prototypes[0]
    own.regions.copy_(torch.rand(own.regions.shape, generator=torch.Generator().manual_seed(1)))
    own.known.copy_(torch.tensor([True, True, False]))
    model = make("fvit_proto", GROUPS, proto_fine=2, **options)
    found = model.load_state_dict(snapshot(first), strict=False)
    assert sorted(found.missing_keys) == sorted(model.new_tensors())
    assert model.new_tensors() == ["prototypes.1.regions", "prototypes.1.known"]
    model.begin_task()
    return model


def test_replay_is_the_classifiers_loss_on_all_known_prototypes():
    model = later_task(proto_weight=0.5)
    value, count = model.replay()
    known = model.prototypes[0].regions[:2].float().flatten(0, 1)
    logits = model.classifier(model.path.fc(known), model.text)
    column = torch.tensor([0, 0, 0, 1, 1, 1])
    wanted = -logits.log_softmax(1)[torch.arange(6), column].mean()
    assert count == 6
    torch.testing.assert_close(value, 0.5 * wanted)
    value.backward()
    taught = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in taught if name.startswith("path")} == {"fc"}
    assert any(name.startswith("classifier") for name in taught)


def test_losses_start_without_drift_and_drift_is_the_squared_change_of_regions():
    model, data = later_task(align_weight=2.0), batch(classes=2)
    start = model.losses(data)
    assert {"align", "prototypes", "distil_rpn", "distil_class", "distil_box"} <= set(start)
    assert float(start["align"].detach()) == pytest.approx(0, abs=1e-10)
    assert float(start["prototypes"].detach()) > 0
    take_step(model, batch(classes=2, seed=1))
    with torch.no_grad():
        levels = model.path.levels(data.taps)
        old = model.teacher.path.levels(data.taps)
        boxes = [target["boxes"] for target in data.targets]
        pairs = ((model.path, levels), (model.teacher.path, old))
        regions = [path.regions(maps, boxes) for path, maps in pairs]
        made = type("Made", (), {"levels": levels})
        value, count = model.drift(data, made, old, boxes)
    assert count == 4
    torch.testing.assert_close(value, 2 * functional.mse_loss(*regions))


def test_old_prototypes_stay_byte_equal_and_the_first_task_has_none():
    model = later_task()
    before = model.prototypes[0].regions.clone()
    take_step(model, batch(classes=2))
    assert torch.equal(model.prototypes[0].regions, before)
    assert not any(name.startswith("prototypes") for name in model.trained())
    first = make("fvit_proto", GROUPS[:1])
    first.begin_task()
    assert set(first.losses(batch(classes=3))) == {"rpn_objectness", "rpn_box", "box", "class"}


def test_prototypes_are_those_of_the_labelled_objects(monkeypatch):
    images = labelled(8, classes=2)
    model = later_task()
    tensors = model.fitted(batches(images))
    assert sorted(tensors) == ["prototypes.1.known", "prototypes.1.regions"]
    assert tensors["prototypes.1.known"].all()
    rows: list[list[torch.Tensor]] = [[], []]
    whole = batches(images)
    with torch.no_grad():
        for i, image in enumerate(images):
            data = whole.plain([i])
            boxes = whole.letterboxed(image).boxes(image.boxes)
            regions = model.path.regions(model.path.levels(data.taps), [boxes])
            for label, region in zip(image.labels.tolist(), regions, strict=True):
                rows[label].append(region)
    for k in (0, 1):
        wanted = class_prototypes(torch.stack(rows[k]), 2)
        torch.testing.assert_close(
            tensors["prototypes.1.regions"][k].float(), wanted, atol=2e-3, rtol=2e-3
        )
    monkeypatch.setattr(fvit_proto, "OBJECTS", 3)
    assert all(2 <= len(found) <= 3 for found in model.object_regions(batches(images)))


def test_a_class_without_objects_is_not_replayed():
    images = [image for image in labelled(8, classes=1)]
    model = later_task()
    tensors = model.fitted(batches(images))
    assert tensors["prototypes.1.known"].tolist() == [True, False]
    third = make("fvit_proto", [*GROUPS, ["ten"]], proto_fine=2)
    third.load_state_dict(snapshot(model) | tensors, strict=False)
    _, column = third.remembered()
    assert column.tolist() == [0, 0, 0, 1, 1, 1, 3, 3, 3]
