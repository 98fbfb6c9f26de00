"""What is odd about a data set and yet no error: shown by ``describe`` and by ``prepare``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from clclip.core.names import outline_key, spelt
from clclip.data.checks.findings import Findings
from clclip.data.checks.scale import check_scale
from clclip.data.readers.annotated import Annotated
from clclip.data.readers.links import count_links, identity, real_paths


def note_detection(
    root: Path, splits: Mapping[str, Annotated], prefixes: Mapping[str, str], findings: Findings
) -> None:
    """Note what the annotations of both splits tell.

    Args:
        root: folder of the data set.
        splits: as they were read.
        prefixes: each split's image folder below the common one ("" or "x/").
        findings: receives the notes.

    Raises:
        InputError: if all boxes of a split are fractions.
    """
    for split, annotated in splits.items():
        for warning, example in annotated.notes:
            findings.note(warning, example)
        check_scale(annotated, split, findings)
    names = {
        split: [image["file_name"] for image in annotated.images]
        for split, annotated in splits.items()
    }
    files = {split: (a.folder, names[split]) for split, a in splits.items()}
    note_files(root, files, prefixes, findings)
    every = (category["name"] for annotated in splits.values() for category in annotated.categories)
    note_classes(every, findings)


def note_files(
    root: Path,
    files: Mapping[str, tuple[Path, Sequence[str]]],
    prefixes: Mapping[str, str],
    findings: Findings,
) -> None:
    """Note images that are in both splits, or twice in one, and count those behind links.

    Args:
        root: folder of the data set; links on the way from it count.
        files: by split, the folder and the names of its images in it.
        prefixes: by split, what messages put before a name.
        findings: receives the notes.
    """
    seen: dict[object, str] = {}
    for split, (folder, names) in files.items():
        findings.links += count_links(root, folder, names)
        for name, path in zip(names, real_paths(folder, names), strict=True):
            file = identity(path)
            if file in seen:
                both = "in train and in test" if seen[file] != split else f"listed twice in {split}"
                findings.note(f"image {both}", repr(prefixes[split] + name))
            seen[file] = split


def note_classes(classes: Iterable[str], findings: Findings) -> None:
    """Note classes whose names differ in case only, or not to the eye."""
    first: dict[str, str] = {}
    for name in dict.fromkeys(classes):
        other = first.setdefault(outline_key(name), name)
        if other != name:
            same = f"{other!r} and {name!r}"
            if other.casefold() != name.casefold():
                same = f"{spelt(other)} and {spelt(name)}"
            findings.note("classes whose names differ in case or look alike", same)


def note_missing(
    counts: Mapping[str, Mapping[str, int]], what: str, findings: Findings, declared: bool = True
) -> None:
    """Note classes that are declared and never shown.

    Args:
        counts: {split: {class: number}}.
        what: what was counted, "instances" or "images".
        findings: receives the notes.
        declared: whether the data itself declares its classes; those of VOC's fixed list that no
            split shows are nobody's concern.
    """
    shown = {name for by_class in counts.values() for name, count in by_class.items() if count}
    for split, by_class in counts.items():
        for name, count in by_class.items():
            if count == 0 and (declared or name in shown):
                findings.note(f"class without {split} {what}", repr(name))
