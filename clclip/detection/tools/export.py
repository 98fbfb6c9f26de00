"""One weights file and a card for a trained run (``clclip export``)."""

from __future__ import annotations

from pathlib import Path

import clclip
from clclip.core.digest import file_sha256
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_json
from clclip.core.task import find_task, read_task, seen_classes, task_folders
from clclip.detection.weights import MEMORY, read_weights, save_weights


def export(run: Path, out: Path, task: int | None = None) -> dict:
    """Merge the weights of tasks 1..t into one safetensors file with a json card beside it.

    Args:
        run: a folder ``results/EXPERIMENT/seedN``.
        out: the weights file, ``.safetensors``; the card is written to the same name with
            ``.json``.
        task: the model after this task; None: after the last trained one.

    Returns:
        the card: classes, tower, protocol, scores, digest, versions.

    Raises:
        InputError: if the run has no such task, a file of it is damaged, or ``out`` names no file.
    """
    if out.name in ("", ".."):  # ".", "/" and "a/.."
        expected = "the name of the weights file, such as model.safetensors"
        raise InputError(f"no file name ({str(out)!r})", "--out", expected)
    task_file = find_task(run, task)
    plan = read_task(task_file)
    merged = {}
    for folder in task_folders(task_file):
        tensors, _ = read_weights(folder / "weights.safetensors")
        # remembered pictures of training images are no part of the detector
        merged.update({n: value for n, value in tensors.items() if not n.startswith(MEMORY)})
    path = out if out.suffix == ".safetensors" else out.with_name(out.name + ".safetensors")
    save_weights(path, merged, {"method": plan["method"], "classes": "\n".join(seen_classes(plan))})
    scores = task_file.parent / "scores.json"
    card = {
        "classes": seen_classes(plan),
        "groups": plan["groups"],
        "kind": plan["kind"],
        "method": plan["method"],
        "seed": plan["seed"],
        "task": plan["task"],
        "clip": plan["clip"],
        "features": plan.get("features"),
        "training": plan["training"],
        "switches": plan["switches"],
        "scores": read_json(scores) if scores.exists() else None,
        "weights": path.name,
        "sha256": file_sha256(path),
        "versions": {"clclip": clclip.__version__},
    }
    write_json(path.with_suffix(".json"), card, indent=1)
    return card
