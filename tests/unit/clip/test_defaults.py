"""What an architecture decides by default, against the architectures themselves."""

from __future__ import annotations

import json

import pytest
import timm
import torch

from clclip.clip.architecture import blocks, dense_mode, taps
from clclip.core.models import open_clip_config

TIMM = (
    "EVA01-g-14",
    "EVA02-B-16",
    "EVA02-E-14",
    "EVA02-L-14",
    "PE-Core-bigG-14-448",
    "PE-Core-T-16-384",
    "ViT-B-16-SigLIP2",
    "ViT-gopt-16-SigLIP2-256",
    "ViT-SO400M-14-SigLIP",
    "vit_medium_patch16_gap_256",
)


@pytest.mark.parametrize("name", TIMM)
def test_the_last_block_of_a_timm_trunk_is_tapped(name):
    trunk = json.loads(open_clip_config(name).read_text())["vision_cfg"]["timm_model_name"]
    with torch.device("meta"):
        depth = len(timm.create_model(trunk, pretrained=False).blocks)
    assert blocks({"model": name}) == depth
    assert taps({"model": name}, 4)[-1] == depth - 1


def test_a_tower_with_an_attentional_pooler_reads_its_tokens_through_it():
    assert dense_mode({"model": "coca_ViT-B-32"}) == "attnpool"
    assert dense_mode({"model": "ViT-B-16"}) == "catseg"
