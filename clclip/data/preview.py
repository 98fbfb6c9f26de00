"""The splits as ``clclip prepare`` writes them, computed before it runs: annotations, not images.

``clclip describe`` counts on them by the very functions that split. Boxes are cleaned against the
recorded sizes, which ``prepare`` holds against the images. Of images only the first bytes are read:
where the size that decides about a bad box is not sure, and for the size and an EXIF orientation,
in a sample first, and in all of them once one of the sample has an orientation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os.path import getsize, isfile, join
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.data.checks import unnamed
from clclip.data.checks.boxes import clean_boxes, fault
from clclip.data.checks.exif import SIZE_UNKNOWN, choose_views, photos
from clclip.data.checks.findings import Findings
from clclip.data.checks.notes import note_detection, note_missing
from clclip.data.images import ImageFacts, header
from clclip.data.index import instances, read_index, read_split
from clclip.data.readers import folder
from clclip.data.readers.annotated import Annotated
from clclip.data.readers.folders import common_root
from clclip.data.readers.links import broken_link, check_inside, trusted_home
from clclip.data.version import ANNOTATED, is_downloaded, merged_classes, read_annotated

_ANY = (10**9, 10**9)  # where no size is recorded: only what is wrong in any image is

_SAMPLE = 2000  # images whose first bytes are read for their size and EXIF orientation

Size = tuple[int, int]


def preview(
    spec: dict[str, Any],
    where: object,
    resources: Path = Path("resources"),
    findings: Findings | None = None,
    named: Collection[str] | None = None,
) -> dict[str, dict[str, Any]] | None:
    """Return {"train": split, "test": split} as ``clclip.data.index.read_split`` would.

    Args:
        spec: a data spec with its id.
        where: the experiment's file, for messages.
        resources: folder of prepared data; what lies there is taken instead of the annotations.
        findings: receives the warnings: those of ``prepare`` where it ran, else what annotations
            and the first bytes of images tell.
        named: the classes of the tasks, as ``prepare`` takes them.

    Returns:
        The splits; None if they are not known: data that is missing, to be downloaded, generated,
        or CIFAR-100.

    Raises:
        InputError: for what ``prepare`` would refuse in the annotations, for a missing image, and
            for a split without an image.
    """
    findings = findings or Findings()
    home = resources / "data" / spec["id"]
    if (home / "index.json").is_file():
        index = read_index(home)
        for line in index.get("warnings", ()):
            findings.tell(str(line))
        unnamed.check_named(index, named or ())
        return {s: read_split(home / f"{s}.json", index["kind"]) for s in ("train", "test")}
    if spec["id"].endswith("-missing") or not is_downloaded(spec):
        return None
    if spec["format"] == "folder":
        return _labelled(spec, where, findings, named)
    if spec["format"] not in ANNOTATED:
        return None
    return _detection(spec, where, findings)


def _labelled(
    spec: dict[str, Any], where: object, findings: Findings, named: Collection[str] | None
) -> dict[str, dict[str, Any]]:
    """Return both splits of labelled folders; see ``preview``."""
    root = Path(spec["root"])
    labelled = folder.read_splits(spec, findings)
    named = named if (spec.get("on_bad_image") or "fail") == "fail" else None
    splits = {}
    for split, images in labelled.images.items():
        own, others = unnamed.divided(images, named)
        present = _present(own, root, split, spec, where, findings)
        aside = Findings()
        present += _present(others, root, split, {**spec, "on_bad_image": "skip"}, where, aside)
        for entry in aside.skipped:
            unnamed.note_broken("", entry, split, root, findings, {})
        present.sort(key=lambda image: image["id"])
        splits[split] = {"classes": labelled.classes, "images": present}
    labelled.note(root, findings)
    return splits


def _detection(
    spec: dict[str, Any], where: object, findings: Findings
) -> dict[str, dict[str, Any]]:
    """Return both splits of images with boxes."""
    splits = read_annotated(spec)
    classes = merged_classes(splits)
    _, prefixes = common_root({split: annotated.folder for split, annotated in splits.items()})
    note_detection(Path(spec["root"]), splits, prefixes, findings)
    present: dict[str, list[dict[str, Any]]] = {}
    for split, annotated in splits.items():
        images, home = annotated.images, annotated.folder
        present[split] = _present(images, home, split, spec, where, findings)
        if not present[split]:
            raise InputError(f"no {split} image", annotated.source, "at least one image")
    sizes = _sizes(splits, present, spec, findings)
    on_bad_box, made = spec.get("on_bad_box") or "fail", {}
    for split, annotated in splits.items():
        known, turned = sizes[split].known, sizes[split].turned
        made[split] = {
            "images": [image for image in present[split] if image["id"] in known],
            "annotations": clean_boxes(annotated, known, split, on_bad_box, findings, turned),
            "categories": annotated.categories,
        }
    counts = {split: instances(data, classes) for split, data in made.items()}
    note_missing(counts, "instances", findings, spec["format"] != "voc")
    return made


def _present(
    images: list[dict[str, Any]],
    home: Path,
    split: str,
    spec: dict[str, Any],
    where: object,
    findings: Findings,
) -> list[dict[str, Any]]:
    """Return the images whose files are there.

    Raises:
        InputError: if one is not or is empty, or a link leaves the data set, unless bad images are
            skipped: then they are listed.
    """
    trusted, skip = trusted_home(spec, home), (spec.get("on_bad_image") or "fail") == "skip"
    there: list[dict[str, Any]] = []
    absent: list[dict[str, Any]] = []
    for image in images:
        path = join(home, image["file_name"])
        try:
            check_inside(Path(path), image["file_name"], trusted)
        except InputError as error:
            if not skip:
                raise
            findings.skip("image", split, image["file_name"], image["id"], error.what)
            continue
        if not isfile(path):
            absent.append(image)
        elif getsize(path):
            there.append(image)
        elif not skip:
            expected = "an image file (or data.on_bad_image: skip)"
            raise InputError(f"broken image (an empty file), of {split}", path, expected)
        else:
            findings.skip("image", split, image["file_name"], image["id"], "an empty file")
    for image in absent if skip else ():
        reason = broken_link(home / image["file_name"]) or "no such image"
        findings.skip("image", split, image["file_name"], image["id"], reason)
    if absent and not skip:
        first = absent[0]["file_name"]
        broken = broken_link(home / first)
        what = f"{len(absent)} of {len(images)} {split} images are missing, e.g. {first!r}"
        what += f" ({broken})" if broken else ""
        expected = "all images, or data.on_bad_image: skip"
        raise InputError(what, f"{where}: {home}", expected)
    return there


@dataclass
class _Sizes:
    """By image id, the size its boxes are held against, and that of the view not taken."""

    known: dict[int, Size]
    turned: dict[int, Size]


def _sizes(
    splits: Mapping[str, Annotated],
    present: Mapping[str, list[dict[str, Any]]],
    spec: dict[str, Any],
    findings: Findings,
) -> dict[str, _Sizes]:
    """Return the sizes of both splits' images, by the rules of ``prepare``.

    Raises:
        InputError: where ``prepare`` would raise it.
    """
    facts = {s: _facts(annotated, present[s]) for s, annotated in splits.items()}
    looked = {s: photos(annotated, facts[s]) for s, annotated in splits.items()}
    every = [photo for by_place in looked.values() for photo in by_place.values()]
    views = iter(choose_views(every, spec.get("exif"), findings))
    sizes = {}
    for split, annotated in splits.items():
        here = {image["id"] for image in present[split]}
        recorded = {i["id"]: (i["width"], i["height"]) for i in annotated.images if i["id"] in here}
        known = {number: _ANY if None in size else size for number, size in recorded.items()}
        for n, image in enumerate(annotated.images):
            if known.get(image["id"]) is _ANY and n not in looked[split]:
                findings.note(SIZE_UNKNOWN, repr(image["file_name"]))
        sizes[split] = _Sizes(known, {})
        for n, photo in looked[split].items():
            number, exif = annotated.images[n]["id"], next(views)
            if isinstance(exif, InputError):
                if (spec.get("on_bad_image") or "fail") == "fail":
                    raise InputError(
                        f"image {photo.name!r}: {exif.what}", exif.where, exif.expected
                    )
                findings.skip("image", split, photo.name, number, exif.what)
                del known[number]
                continue
            known[number] = photo.facts.size(exif)
            if photo.facts.orientation != 1:
                sizes[split].turned[number] = photo.facts.size(not exif)
    return sizes


def _facts(annotated: Annotated, present: list[dict[str, Any]]) -> dict[int, ImageFacts]:
    """Return the facts of the images that must be looked at, by their place in the split.

    Those of doubtful size, and of a sample those whose file has another; if one of the sample is
    turned by EXIF, all.
    """
    here = {image["id"] for image in present}
    places = [n for n, image in enumerate(annotated.images) if image["id"] in here]
    facts = _headers(annotated, _doubtful(annotated, places))
    sample = _headers(annotated, places[:: max(1, len(places) // _SAMPLE)])
    if any(own.orientation != 1 for own in (facts | sample).values()):
        return facts | sample | _headers(annotated, set(places) - set(facts) - set(sample))
    return facts | {n: own for n, own in sample.items() if _differs(annotated.images[n], own)}


def _differs(image: Mapping[str, Any], facts: ImageFacts) -> bool:
    """Tell whether an image's recorded size is not that of its file."""
    recorded = (image["width"], image["height"])
    return None not in recorded and recorded != facts.size(False)


def _headers(annotated: Annotated, places: Iterable[int]) -> dict[int, ImageFacts]:
    """Return what the first bytes of images tell; broken ones are left to ``prepare``."""

    def look(n: int) -> tuple[int, ImageFacts | None]:
        try:
            return n, header(annotated.folder / annotated.images[n]["file_name"])
        except (InputError, OSError, ValueError):
            return n, None

    with ThreadPoolExecutor(4) as pool:
        return {n: facts for n, facts in pool.map(look, places) if facts}


def _doubtful(annotated: Annotated, places: Iterable[int]) -> list[int]:
    """Return the images with a box that is wrong only if the recorded size is not the right one."""
    boxes: dict[int, list[list[float]]] = {}
    for n, annotation in enumerate(annotated.annotations):
        if n not in annotated.bad_boxes:
            boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    doubtful = []
    for n in places:
        image = annotated.images[n]
        recorded = (image["width"], image["height"])
        unknown = None in recorded
        size = _ANY if unknown else recorded
        wrong = [box for box in boxes.get(image["id"], ()) if fault(box, *size)]
        if not wrong or (not unknown and size[0] == size[1]):
            continue  # all is well, or wrong in either view
        if unknown or not any(fault(box, *size[::-1]) for box in wrong):
            doubtful.append(n)
    return doubtful
