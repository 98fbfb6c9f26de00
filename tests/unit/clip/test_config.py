"""What is told of CLIPs without importing open_clip is what open_clip itself says."""

import json

import pytest
import yaml

from clclip.cli.main import main
from clclip.clip import catalogue
from clclip.clip.architecture import has_patch_tokens, native_size, patch
from clclip.clip.catalogue import known_tags
from clclip.config.names import known_names
from clclip.core.errors import InputError
from clclip.core.models import open_clip_config

TOWERS = {  # one of each family: patch in px, None where the name does not tell it
    "ViT-B-16": 16,
    "ViT-L-14": 14,
    "EVA02-B-16": 16,
    "ViT-B-16-SigLIP2": 16,
    "ViT-SO400M-14-SigLIP": 14,
    "ViTamin-S": None,
    "RN50": None,
    "convnext_tiny": None,
    "swin_base_patch4_window7_224": None,
    "MobileCLIP-S1": None,
    "vit_relpos_medium_patch16_cls_224": None,
}


@pytest.mark.parametrize("model", TOWERS)
def test_patches_are_those_of_the_tower(model):
    import torch
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    from clclip.clip.trunk import trunk_of

    config = json.loads(open_clip_config(model).read_text())
    vision = CLIPVisionCfg(**{**config["vision_cfg"], "timm_model_pretrained": False})
    with torch.device("meta"):
        tower = _build_vision_tower(config["embed_dim"], vision)
    try:
        found = trunk_of(tower).patch
    except InputError:
        assert not has_patch_tokens(model)
        return
    assert has_patch_tokens(model) and patch({"model": model}) == TOWERS[model]
    assert TOWERS[model] in (found, None) and native_size({"model": model}) == vision.image_size


@pytest.mark.parametrize("model", ["embedded", "embedded_cls", "embedded_map"])
def test_embedded_clips_tell_their_patch(model):
    assert (patch({"model": model}), native_size({"model": model})) == (8, 128)


def test_tags_are_those_of_open_clip():
    import open_clip

    assert catalogue.FILE.read_text() == catalogue.table_text(), "python -m clclip.clip.catalogue"
    models = set(open_clip.list_models()) | {model for model, _ in open_clip.list_pretrained()}
    for model in models:
        assert known_tags(model) == open_clip.list_pretrained_tags_by_model(model), model


@pytest.mark.parametrize("release", [None, "3.99.0"])
def test_another_release_of_open_clip_refuses_nothing(release, monkeypatch):
    monkeypatch.setattr(catalogue, "installed_release", lambda: release)
    assert known_tags("ViT-B-16") is None


def test_tags_and_sizes_that_are_right_pass(tmp_path, capsys):
    file = tmp_path / "mine.yaml"
    mine = {"kind": "detection", "method": "clclip", "tasks": [["red circle"]]}
    for clip, size in (
        ({"model": "ViT-L-14", "tag": "openai"}, 644),
        ({"model": "ViT-L-14", "tag": "openai"}, None),  # 630, the largest multiple up to 640
        ({"model": "ViT-B-16-quickgelu", "tag": "openai"}, None),
        ({"model": "embedded_map"}, 136),
    ):
        file.write_text(yaml.safe_dump(mine | {"clip": clip, "training": {"image_size": size}}))
        assert main(["describe", str(file)]) == 0, capsys.readouterr().err
    (tmp_path / "own.safetensors").write_bytes(b"x")
    own = {"model": "ViT-B-16", "tag": "of my own", "file": str(tmp_path / "own.safetensors")}
    file.write_text(yaml.safe_dump(mine | {"clip": own}))
    assert main(["describe", str(file)]) == 0, capsys.readouterr().err


def test_shipped_experiments_fit_their_clips(capsys, tmp_path, monkeypatch):
    """A canvas of 640 px is no multiple of ViT-L-14's patch."""
    monkeypatch.chdir(tmp_path)
    start = ("voc_10_10_fvit_", "coco_4task_a_clclip", "imagenet_r_10x20_seca")
    found = [name for name in known_names() if name.startswith(start)]
    assert sum("l14" in name for name in found) > 2
    for name in found:
        assert main(["describe", name]) == 0, name
