"""Text vectors of a model that was changed: rows of the old files, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save

from clclip.clip.ids import text_file
from clclip.clip.text import read_background, read_text
from clclip.core.artifacts import Task
from clclip.core.errors import InputError
from clclip.core.files import write_bytes
from clclip.core.task import text_names
from clclip.model.kinds import KINDS
from clclip.model.place import ModelPlace, open_place


def write_texts(models: ModelPlace | Sequence[ModelPlace], plan: Task, folder: Path) -> None:
    """Write the text vectors of ``plan``'s columns into a model folder.

    Args:
        models: whose vectors they are; together they hold all columns, in order.
        plan: the last task file of the changed model.
        folder: the model folder.

    Raises:
        InputError: if the models' background vectors differ: other templates.
    """
    if not KINDS[plan["kind"]].dense:
        return
    sources = [models] if isinstance(models, ModelPlace) else list(models)
    files = [text_file(model.plan, model.texts) for model in sources]
    backgrounds = [read_background(path) for path in files]
    for path, background in zip(files[1:], backgrounds[1:], strict=True):
        if not torch.equal(background, backgrounds[0]):
            raise InputError("other background vectors", path, f"those of {files[0]}: one template")
    rows = torch.cat([read_text(path)[1] for path in files])
    write_rows(plan, rows, backgrounds[0], folder)


def write_rows(plan: Task, rows: torch.Tensor, background: torch.Tensor, folder: Path) -> None:
    """Write (K, d) text vectors of a task's columns, as ``clclip embed-text`` does."""
    names = text_names(plan)
    if len(names) != len(rows):
        raise ValueError(f"got {len(rows)} rows for {len(names)} columns; expected one each")
    metadata = {"names": json.dumps(names), "clip": plan["clip"]["id"]}
    tensors = {"text": rows.contiguous(), "background": background.contiguous()}
    write_bytes(text_file(plan, folder), save(tensors, metadata))


def take_over_texts(place: Path, path: Path) -> None:
    """Let a file of text vectors hold a model's own, bit for bit, where the model has them.

    On another machine the same text may be embedded with other last bits, and an old class would
    not be what it was.

    Args:
        place: a model folder.
        path: a file of ``clclip embed-text`` on the model's CLIP.

    Raises:
        InputError: if the model or the file is damaged.
    """
    model = open_place(place)
    known, vectors = read_text(text_file(model.plan, model.texts))
    background = read_background(text_file(model.plan, model.texts))
    names, rows = read_text(path)
    row = {name: vectors[k] for k, name in enumerate(known)}
    rows = torch.stack([row.get(name, rows[k]) for k, name in enumerate(names)])
    metadata = {"names": json.dumps(names), "clip": str(model.plan["clip"]["id"])}
    tensors = {"text": rows.contiguous(), "background": background.contiguous()}
    write_bytes(path, save(tensors, metadata))
