"""Broken images of class folders that no task names: a remark, until a task names such a class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.task import data_dir, read_task, seen_classes
from clclip.data.checks.findings import Findings
from clclip.data.checks.verify import verify_images
from clclip.data.index import read_index

KEY = "broken"  # of index.json: class -> what, where and expected of the error about its image
_KIND = "broken image in a class folder that no task names"


def divided(
    images: Sequence[dict[str, Any]], classes: Collection[str] | None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the images whose class is one of ``classes``, and the others; None: all are."""
    named = [image for image in images if classes is None or image["label"] in classes]
    others = [] if classes is None else [i for i in images if i["label"] not in classes]
    return named, others


def whole_images(
    root: Path,
    images: Sequence[dict[str, Any]],
    split: str,
    findings: Findings,
    home: Path | None,
    broken: dict[str, list[str]],
) -> set[int]:
    """Return the ids of the whole images of classes that no task names.

    Args:
        root: what "file_name" is relative to.
        images: {"id", "file_name", "label"}.
        split: for messages.
        findings: receives a remark on each broken image.
        home: a folder that no link may leave.
        broken: receives what is wrong, by class.
    """
    aside = Findings()
    where = f"the {split} images"
    facts = verify_images(root, images, split, "skip", lambda _: where, aside, home)
    findings.links += aside.links
    labels = {image["id"]: image["label"] for image in images}
    for entry in aside.skipped:
        note_broken(labels[entry["id"]], entry, split, root, findings, broken)
    return {image["id"] for image, good in zip(images, facts, strict=True) if good}


def note_broken(
    label: str,
    entry: Mapping[str, Any],
    split: str,
    root: Path,
    findings: Findings,
    broken: dict[str, list[str]],
) -> None:
    """Note one broken image, as ``Findings.skip`` lists it, of a class that no task names."""
    findings.note(_KIND, f"{entry['file_name']!r} ({entry['reason']})")
    what = f"{entry['reason']}, of class {label!r}, listed at the {split} images"
    expected = "an image file (or data.on_bad_image: skip)"
    broken.setdefault(label, [what, str(root / entry["file_name"]), expected])


def check_named(index: Mapping[str, Any], classes: Collection[str]) -> None:
    """Refuse a class whose images were broken when nothing named it.

    Raises:
        InputError: for the first such class.
    """
    broken: dict[str, list[str]] = index.get(KEY, {})
    for name in classes:
        if name in broken:
            what, where, expected = broken[name]
            raise InputError(what, where, expected)


def check_task(task_file: Path, resources: Path) -> None:
    """Refuse a task one of whose classes has broken images; see ``check_named``."""
    task = read_task(task_file)
    check_named(read_index(data_dir(task, resources)), seen_classes(task))
