"""What the SECA tests are made of: a CLIP of random weights, a stream of images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor

from clclip.classification.registry import method_options

torch.set_num_threads(1)  # the nets are tiny; threads would only wait for each other

CONTEXT, VOCABULARY = 24, 300


def small_clip(pool_type: str = "avg", seed: int = 0) -> torch.nn.Module:
    """Return a random open_clip ViT: 3 blocks, width 32, joint width 24; "map": attention pools."""
    pooling = {"attentional_pool": True, "attn_pooler_queries": 1, "attn_pooler_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.model.CLIP(
            embed_dim=24,
            vision_cfg={
                "layers": 3,
                "width": 32,
                "head_width": 16,
                "patch_size": 8,
                "image_size": 32,
                **(pooling if pool_type == "map" else {"pool_type": pool_type}),
            },
            text_cfg={
                "context_length": CONTEXT,
                "vocab_size": VOCABULARY,
                "width": 32,
                "heads": 2,
                "layers": 2,
            },
        )
    return model.eval().requires_grad_(False)


def tokenizer(texts: list[str]) -> Tensor:
    """Return CLIP-like ids: start 298, one id per character, end 299, zeros."""
    rows = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        ids = [*[298, *(1 + ord(c) % 290 for c in text)][: CONTEXT - 1], 299]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def bare_tokenizer(texts: list[str]) -> Tensor:
    """Return SigLIP-like ids: no start token, end 1, padding 0."""
    rows = torch.zeros(len(texts), CONTEXT, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        ids = [*[2 + ord(c) % 290 for c in text][: CONTEXT - 1], 1]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def write_stream(
    base: Path, method: str, groups: list[list[str]], switches: dict | None = None, **training
) -> list[Path]:
    """Write images, splits and task files of a stream; return the task files.

    The images of a class are noise around a colour of its own.
    """
    settings = {
        "epochs": 2,
        "lr": 1e-2,
        "batch_size": 4,
        "optimizer": "adam",
        "weight_decay": 0.0,
        "schedule": "constant",
        "milestones": [],
        "warmup_steps": 0,
        "min_steps": 0,
        "grad_clip": None,
        "image_size": None,
    } | training
    root = base / "resources" / "data" / "noise" / "images"
    root.mkdir(parents=True, exist_ok=True)
    (root.parent / "index.json").write_text(json.dumps({"root": "images"}))
    files = []
    for number in range(1, len(groups) + 1):
        seen = [name for group in groups[:number] for name in group]
        folder = base / "results" / method / "seed0" / f"task{number}"
        task = {
            "kind": "classification",
            "method": method,
            "seed": 0,
            "task": number,
            "groups": groups[:number],
            "text": {},
            "data": {"id": "noise"},
            "clip": {"id": "small"},
            "training": settings,
            "switches": method_options(method, switches or {}).model_dump(),
            "evaluation": {},
        }
        folder.mkdir(parents=True)
        (folder / "task.json").write_text(json.dumps(task))
        info = {"task": number}
        for split, names, count in (("train", groups[number - 1], 3), ("test", seen, 2)):
            images = [_image(root, split, name, k) for name in names for k in range(count)]
            (folder / f"{split}.json").write_text(
                json.dumps({"classes": names, "images": images, "info": info})
            )
        files.append(folder / "task.json")
    return files


def _image(root: Path, split: str, name: str, number: int) -> dict:
    file = f"{split}_{name.replace(' ', '_')}_{number}.png"
    if not (root / file).exists():
        colour = np.random.default_rng(sum(map(ord, name))).integers(40, 216, 3)
        noise = np.random.default_rng(sum(map(ord, file))).integers(-40, 40, (32, 32, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(root / file)
    return {"id": f"{split}/{file}", "file_name": file, "label": name}


def write_clip_card(resources: Path) -> None:
    """Write the card of the random CLIP, which commands for people read before they load it."""
    folder = resources / "clip" / "small"
    folder.mkdir(parents=True)
    card = {"id": "small", "model": "small", "tag": None, "image_size": 32, "sha256": "0" * 64}
    card |= {"mean": [0.5] * 3, "std": [0.25] * 3, "embed_dim": 24, "patch": 8}
    (folder / "clip.json").write_text(json.dumps(card))
