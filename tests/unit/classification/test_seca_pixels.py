"""Classifiers see the very pixels that open_clip's own transform makes, whatever the tag."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from clclip.classification.pixels import Pixels, preparation
from clclip.clip.load import build, pixel_settings, register_embedded

TAGS = [
    ("ViT-B-16", "openai"),
    ("ViT-B-16-SigLIP", "webli"),
    ("ViT-B-16-SigLIP2", "webli"),
    ("EVA02-B-16", "merged2b_s8b_b131k"),
    ("PE-Core-B-16", "meta"),  # squashed, bilinear
    ("MobileCLIP2-S4", "dfndr2b"),  # shorter side, bilinear
]
SIZES = [(500, 375), (375, 500), (641, 427), (333, 999), (225, 224), (224, 224), (64, 51), (3, 7)]


def their_settings(model, tag, size):
    """Return the settings that open_clip itself gives a tag's model."""
    config = open_clip.get_pretrained_cfg(model, tag)
    names = ("mean", "std", "interpolation", "resize_mode")
    return PreprocessCfg(size=size, **{n: config[n] for n in names if config.get(n)})


def tower(settings):
    """Return what stands for a built model: open_clip keeps the settings with its visual tower."""
    return SimpleNamespace(visual=SimpleNamespace(preprocess_cfg=settings))


@pytest.mark.parametrize(("model", "tag"), TAGS)
def test_pixels_are_those_of_open_clips_transform(model, tag, tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{w}x{h}.png" for w, h in SIZES]
    for path, (width, height) in zip(paths, SIZES, strict=True):
        noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    config = their_settings(model, tag, 224)
    theirs = image_transform_v2(config, is_train=False)
    built = tower({"size": 224, "mode": "RGB", **pixel_settings(model, tag)})
    clip = SimpleNamespace(model=built, mean=config.mean, std=config.std)
    own = Pixels(paths, clip, 224, torch.device("cpu"))
    for row, path in enumerate(paths):
        assert torch.equal(own[[row]][0], theirs(Image.open(path).convert("RGB"))), path.name


def test_500_x_375_is_cut_where_open_clip_cuts_it():
    columns = np.linspace(0, 255, 500).astype(np.uint8)
    image = Image.fromarray(np.repeat(columns[None, :, None], 375, axis=0).repeat(3, axis=2))
    resized = image.resize((298, 224), Image.Resampling.BICUBIC).crop((37, 0, 261, 224))
    found = preparation(tower({"size": 64}), 224)(image)
    assert torch.equal(found, torch.from_numpy(np.array(resized)).permute(2, 0, 1))


def test_the_settings_of_every_tag_are_its_own():
    for model, tag in open_clip.list_pretrained():
        found = pixel_settings(model, tag)
        theirs = their_settings(model, tag, 224)
        assert PreprocessCfg(size=224, **found) == theirs, (model, tag)
    assert pixel_settings("ViT-B-16", None) == {}


def test_a_built_model_keeps_the_settings_of_its_tag(monkeypatch):
    register_embedded()
    config = open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli")
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: config)
    kept = open_clip.get_model_preprocess_cfg(build("embedded", "webli"))
    assert (kept["resize_mode"], kept["interpolation"]) == ("squash", "bicubic")
    assert tuple(kept["mean"]) == (0.5, 0.5, 0.5)
