"""The gate is calibrated on the first training images, few of them in memory at a time."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from clclip.clip.cost_volume import cost_volume
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.proposals import canvas_list
from clclip.detection.methods.clclip import detector
from clclip.detection.methods.clclip.gate import Gate
from tests.helpers import detection as making


@pytest.mark.parametrize("count", [5, 16, 40, 100])
def test_the_gate_starts_from_the_first_images_a_batch_at_a_time(count):
    torch.manual_seed(0)
    dense = functional.normalize(torch.randn(count, making.DIM, 5, 5), dim=1)
    text = functional.normalize(torch.randn(3, making.DIM), dim=1)
    asked = []

    def plain(members):
        asked.append(members)
        return Batch([], dense[list(members)], canvas_list(0, (8, 8), torch.zeros(0, 2)))

    model = making.clclip([making.NAMES[:3]])
    model.text.copy_(text)
    model.calibrate(SimpleNamespace(images=range(count), plain=plain))
    shown = min(count, detector.CALIBRATION_IMAGES)
    assert [member for part in asked for member in part] == list(range(shown))
    assert max(map(len, asked)) <= detector.IMAGES_PER_PASS
    whole = Gate("sigmoid")
    whole.calibrate(cost_volume(dense[:shown], text))
    assert torch.equal(model.gate.middle, whole.middle)
    assert torch.equal(model.gate.log_slope, whole.log_slope)
