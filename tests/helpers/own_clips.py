"""Model configs of one's own for tests, tiny but of real architectures, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file

from clclip.clip.load import quiet

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "patch_size": 8, "layers": 2, "width": 32, "head_width": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "class token": {"no_ln_pre": True, "norm_kwargs": {"eps": 1e-6}},
    "average": {"pool_type": "avg", "final_ln_after_pool": True, "pos_embed_type": "sin_cos_2d"},
    "pooler": {"attentional_pool": True, "attn_pooler_queries": 4, "attn_pooler_heads": 2},
    "blocks of another kind": {"qk_norm": True, "scale_attn_inner": True, "ls_init_value": 0.1},
    "six blocks": {"layers": 6, "patch_size": [16, 16], "image_size": [64, 64]},
    "timm": {"timm_model_name": "test_vit", "timm_pool": "token", "image_size": 160},
    "timm, pooled by attention": {"timm_model_name": "test_vit3", "timm_pool": "map"},
}
PIXELS = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash"}


def config_of(family: str) -> dict[str, Any]:
    """Return the model config of a family, in the form of open_clip's list."""
    vision = FAMILIES[family]
    if "timm_model_name" in vision:
        vision = {"image_size": 160, "timm_proj": "linear", **vision}
        return {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT, "custom_text": True}
    return {"embed_dim": 24, "vision_cfg": {**VIT, **vision}, "text_cfg": TEXT}


def reference(config: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """Return open_clip's model of a config, every parameter random."""
    torch.manual_seed(seed)
    given = json.loads(json.dumps(config))
    made = CustomTextCLIP if given.pop("custom_text", False) else CLIP
    with quiet():
        model = made(**given).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def write_own(
    folder: Path,
    config: dict[str, Any],
    seed: int = 0,
    names: tuple[str, str] = ("own.json", "own.safetensors"),
) -> dict[str, str]:
    """Write config and random weights; return the section ``clip`` of an experiment file."""
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / names[0], folder / names[1]
    found[0].write_text(json.dumps(config))
    state = reference(config.get("model_cfg", config), seed).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, found[1])
    return {"config": str(found[0]), "file": str(found[1])}


def write_folder(folder: Path, family: str = "class token", seed: int = 0) -> Path:
    """Write a folder as open_clip does for the hub: its config's name, its weights' name."""
    whole = {"model_cfg": config_of(family), "preprocess_cfg": PIXELS}
    write_own(folder, whole, seed, ("open_clip_config.json", "open_clip_model.safetensors"))
    return folder


def hub_cache(root: Path, repository: str, revision: str, family: str = "class token") -> None:
    """Write a model into a folder laid out as the hub's cache; ``main`` is this revision."""
    home = root / f"models--{repository.replace('/', '--')}"
    write_folder(home / "snapshots" / revision, family, seed=len(revision))
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text(revision)


__all__ = ["FAMILIES", "PIXELS", "config_of", "hub_cache", "open_clip", "reference", "write_own"]
