"""``speed:`` changes no result: the same losses and gradients, whatever it says."""

from __future__ import annotations

import json

import pytest
import torch

from clclip.config.run import RunConfig
from clclip.core import machine as speed_module
from clclip.core.errors import InputError
from clclip.detection.inputs import online
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.inputs.views import letterboxed
from clclip.training.device import to_device
from tests.helpers.clip import random_clip
from tests.helpers.detection import NAMES, batch, clclip, fvit

CPU = torch.device("cpu")


@pytest.fixture
def say(monkeypatch):
    def announce(**chosen):
        monkeypatch.setenv(speed_module.VARIABLE, json.dumps(chosen))

    return announce


def gradients(make):
    model = to_device(make(), CPU)
    model.begin_task()
    losses = model.losses(batch())
    sum(losses.values()).backward()
    found = {name: value.grad for name, value in model.trained().items()}
    detected = model.detect(batch(labelled=False))
    return {k: v.detach() for k, v in losses.items()}, found, detected


@pytest.mark.parametrize(
    "chosen",
    [
        {"checkpoint": True},
        {"channels_last": True},
        {"experts": "grouped"},
        {"experts": "blocks", "checkpoint": True, "channels_last": True},
    ],
)
@pytest.mark.parametrize(
    "make", [lambda: fvit([NAMES[:3]]), lambda: clclip([NAMES[:3], NAMES[3:]])]
)
def test_no_choice_changes_losses_gradients_or_detections(say, make, chosen):
    losses, wanted, detected = gradients(make)
    say(**chosen)
    own, found, again = gradients(make)
    for name, value in losses.items():
        torch.testing.assert_close(own[name], value, rtol=1e-4, atol=1e-6)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        if value is None:
            assert found[name] is None
        else:
            torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    for one, other in zip(again, detected, strict=True):
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-3, atol=1e-5)


def test_checkpointing_keeps_less_for_the_backward_pass(say):
    def kept():
        sizes = []
        model = clclip([NAMES])
        model.begin_task()
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel()) or t, lambda t: t
        ):
            model.losses(batch(4))
        return sum(sizes)

    plain = kept()
    say(checkpoint=True)
    assert kept() < 0.7 * plain


def test_a_tower_sees_few_large_canvases_at_a_time(say, monkeypatch, tmp_path):
    loaded = random_clip("ViT-B-16", layers=2, width=64, head_width=32)
    monkeypatch.setattr("clclip.clip.load.load_clip", lambda _: loaded)
    monkeypatch.setattr(online.torch.cuda, "is_available", lambda: False)
    source = OnlineFeatures(tmp_path, {}, 32, "catseg", [0, 1])
    views = [letterboxed(32, 32, 32)] * 5
    canvases = source.rendered([torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)] * 5, views)
    whole, seen = source.features(canvases), []
    source.tower.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    say(tower_tokens=2 * 4)  # canvases of 2 x 2 tokens
    parts = source.features(canvases)
    assert seen == [2, 2, 1]
    torch.testing.assert_close(parts.dense, whole.dense, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(parts.taps[1], whole.taps[1], rtol=1e-5, atol=1e-5)
    say(tower_tokens=1)
    assert torch.isfinite(source.features(canvases).dense).all() and seen[-5:] == [1] * 5


def test_the_tower_is_compiled_where_asked(say, monkeypatch, tmp_path):
    loaded = random_clip("ViT-B-16", layers=1, width=64, head_width=32)
    monkeypatch.setattr("clclip.clip.load.load_clip", lambda _: loaded)
    asked = []
    monkeypatch.setattr(torch, "compile", lambda module: asked.append(module) or module)
    OnlineFeatures(tmp_path, {}, 32, "catseg", [0])
    assert not asked
    say(compile=True)
    OnlineFeatures(tmp_path, {}, 32, "catseg", [0])
    assert len(asked) == 1


def test_the_section_is_checked_and_reaches_jobs_by_the_environment(monkeypatch):
    assert RunConfig(experiments=["a"], speed={"prefetch": 3}).speed.prefetch == 3
    for wrong in ({"prefetch": -1}, {"magic": 1}, {"experts": "fast"}, {"tower_tokens": 0}):
        with pytest.raises(ValueError):
            RunConfig(experiments=["a"], speed=wrong)
    monkeypatch.setenv(speed_module.VARIABLE, "")
    speed_module.announce({"compile": True})
    assert speed_module.speed().compile and speed_module.speed().prefetch is None
    speed_module.announce(None)
    assert speed_module.speed() == speed_module.Speed()
    monkeypatch.setenv(speed_module.VARIABLE, '{"prefetch": "many"}')
    with pytest.raises(InputError, match="prefetch"):
        speed_module.speed()


@pytest.mark.parametrize("make", [lambda: fvit([NAMES[:3]]), lambda: clclip([NAMES[:3]])])
def test_half_precision_is_laid_out_for_a_cpu_and_a_choice_holds(say, make):
    def formats(mode):
        weights = (
            to_device(make(), CPU, mode).shared_paths()[0].pyramid.fpn.layer_blocks[0][0].weight
        )
        return weights.is_contiguous(), weights.is_contiguous(memory_format=torch.channels_last)

    assert formats("fp32") == (True, False) and formats("bf16") == (False, True)
    say(channels_last=False)
    assert formats("bf16") == (True, False)
    say(channels_last=True)
    assert formats("fp32") == (False, True)
