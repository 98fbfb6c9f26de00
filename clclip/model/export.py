"""``clclip export``: a trained run as a model folder that can leave the results folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from clclip.clip.ids import text_file
from clclip.core.errors import InputError
from clclip.core.files import write_bytes, write_text
from clclip.core.task import clip_dir, has_boxes, read_task, text_names
from clclip.model.card import BESIDE, is_model, write_card
from clclip.model.folder import new_folder
from clclip.model.kinds import KINDS
from clclip.model.place import ModelPlace, open_place
from clclip.model.readme import readme


def export(
    run: Path,
    out: Path,
    task: int | None = None,
    *,
    with_tower: bool = False,
    with_memory: bool = False,
    onnx: bool = False,
    resources: Path | None = None,
) -> dict[str, Any]:
    """Write a model folder: card.json, README.md, the parts, the text vectors.

    Args:
        run: a folder ``results/EXPERIMENT/seedN``, or a model folder (to add a tower).
        out: the folder; an older model in it is replaced.
        task: the model after this task; None: after the last trained one.
        with_tower: add the frozen tower with its text tower, so that nothing else is needed.
        with_memory: keep what the method remembers of old data; later tasks of such a method need
            it, ``detect`` and ``classify`` do not.
        onnx: add model.onnx, the model with its tower for runtimes other than torch.
        resources: folder of the run's CLIP and texts; None: beside its ``results``.

    Returns:
        the card.

    Raises:
        InputError: if the run has no such task, a file of it is damaged, or ``out`` is no folder
            for a model.
    """
    model = open_place(run, task, resources)
    with new_folder(out) as folder:
        memory = copy_parts(model, folder, with_memory)
        if KINDS[model.plan["kind"]].dense:
            _copy_texts(model, folder)
        if with_tower:
            copy_tower(model, folder)
        if onnx:
            _add_onnx(model, folder)
        return finish(folder, model.card | {"memory": memory}, out.name)


def _add_onnx(model: ModelPlace, folder: Path) -> None:
    """Write model.onnx into a folder.

    Raises:
        InputError: if the model cannot be exported.
    """
    from clclip.model.onnx.writing import FILE

    path = folder / FILE
    if has_boxes(model.plan):
        from clclip.model.onnx.detection import export_detector
        from clclip.model.use.detection import DetectionModel

        export_detector(DetectionModel(model, "cpu"), path)
    else:
        from clclip.model.onnx.classification import export_classifier
        from clclip.model.use.classification import ClassificationModel

        export_classifier(ClassificationModel(model, "cpu"), path)


def finish(folder: Path, card: dict[str, Any], name: str) -> dict[str, Any]:
    """Write card and README of a folder whose other files are there."""
    tower = any(folder.glob("clip/*/clip.safetensors"))
    card = write_card(folder, card | {"clip": {**card["clip"], "included": tower}})
    write_text(folder / "README.md", readme(card, name))
    return card


def copy_parts(model: ModelPlace, folder: Path, with_memory: bool = True) -> str:
    """Copy the parts' task files and weights; return what the card says of memory."""
    has_memory = False
    prefix = KINDS[model.plan["kind"]].memory
    for source in model.folders:
        target = folder / source.name
        copy_part(source, target, weights=False)
        has_memory |= _copy_weights(source, target, None if with_memory else prefix, prefix)
    if is_model(model.place) and not has_memory:
        return str(model.card["memory"])
    return ("included" if with_memory else "left out") if has_memory else "none"


def copy_part(source: Path, target: Path, weights: bool = True) -> None:
    """Copy the files of a task that a model consists of, byte for byte.

    Args:
        source: the task's folder, of a run or a model.
        target: the folder to make.
        weights: whether to copy the weights themselves.

    Raises:
        InputError: if one is missing.
    """
    _copy(source / "task.json", target / "task.json")
    for name in BESIDE:
        if (source / name).is_file():
            _copy(source / name, target / name)
    if weights:
        _copy(source / "weights.safetensors", target / "weights.safetensors")


def _copy_weights(source: Path, target: Path, without: str | None, prefix: str) -> bool:
    """Copy a part's weights, perhaps without its memory; tell whether it has some."""
    from clclip.detection.weights import read_weights
    from clclip.training.tensors import save_tensors

    path = source / "weights.safetensors"
    tensors, metadata = read_weights(path)
    plain = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    if without is None or len(plain) == len(tensors):
        _copy(path, target / path.name)
    else:
        save_tensors(target / path.name, plain, metadata)
    return len(plain) < len(tensors)


def _copy_texts(model: ModelPlace, folder: Path) -> None:
    """Copy the text vectors of a model's columns.

    Nothing embedded those of a part that a run took over from a model (``start:``): they are the
    first rows of a later task's.

    Raises:
        InputError: if they are nowhere.
    """
    path = text_file(model.plan, model.texts)
    later = () if path.is_file() else model.task_file.parent.parent.glob("task*/task.json")
    for task_file in sorted(later):
        longer = read_task(task_file)
        source, names = text_file(longer, model.texts), text_names(model.plan)
        if source.is_file() and text_names(longer)[: len(names)] == names:
            from clclip.clip.text import read_background, read_text
            from clclip.model.change.texts import write_rows

            rows = read_text(source)[1][: len(names)]
            return write_rows(model.plan, rows, read_background(source), folder)
    _copy(path, text_file(model.plan, folder))


def copy_tower(model: ModelPlace, folder: Path) -> None:
    """Copy the frozen tower, its text tower and what its tokenizer needs."""
    from clclip.model.place import tower_home

    with tower_home(model) as home:
        source, target = clip_dir(model.plan, home), clip_dir(model.plan, folder)
        target.mkdir(parents=True)
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                _copy(path, target / path.name)


def _copy(source: Path, target: Path) -> None:
    """Copy a file as it is."""
    if not source.is_file():
        raise InputError("no such file", source, "a file of the run, as its stages wrote it")
    if source.stat().st_size < 2**26:
        return write_bytes(target, source.read_bytes())
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
