"""The gate is calibrated on the first training images, few of them in memory at a time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from clclip.clip.cost_volume import cost_volume
from clclip.detection.methods.clclip.gate import Gate
from clclip.detection.stages import train


@pytest.mark.parametrize("count", [5, 16, 40, 100])
def test_the_gate_starts_from_the_first_images_a_batch_at_a_time(count):
    torch.manual_seed(0)
    dense = functional.normalize(torch.randn(count, 16, 5, 5), dim=1)
    text = functional.normalize(torch.randn(3, 16), dim=1)
    asked = []

    def plain(members):
        asked.append(members)
        batch = SimpleNamespace(dense=dense[members])
        batch.to = lambda device: batch
        return batch

    model = SimpleNamespace(
        gate=Gate("sigmoid"),
        gates=lambda dense, classes: (cost_volume(dense, text[classes]), None),
        classes_of=lambda task: slice(0, 3),
    )
    batches = SimpleNamespace(images=range(count), plain=plain)
    train._calibrate_gate(model, batches, torch.device("cpu"))
    shown = min(count, train.CALIBRATION_IMAGES)
    assert [member for part in asked for member in part] == list(range(shown))
    assert max(map(len, asked)) <= train.PREDICT_BATCH
    whole = Gate("sigmoid")
    whole.calibrate(cost_volume(dense[:shown], text))
    assert torch.equal(model.gate.middle, whole.middle)
    assert torch.equal(model.gate.log_slope, whole.log_slope)
