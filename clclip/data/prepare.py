"""``clclip prepare``: verify a data set and index it in one layout that every later stage reads.

``out/index.json`` is written last: where it is, the rest is whole. Images are never copied
(CIFAR-100, which has no image files, and generated worlds are written as PNG). ``contents.json``
says what the image files held, so that the task store knows images again in a changed data set.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import make_folder, read_json, write_json
from clclip.data.checks import unnamed
from clclip.data.checks.boxes import clean_boxes
from clclip.data.checks.exif import Photo, choose_views, photos
from clclip.data.checks.findings import Findings
from clclip.data.checks.notes import note_detection, note_missing
from clclip.data.checks.verify import verify_images
from clclip.data.contents import write_contents
from clclip.data.index import instances
from clclip.data.readers import cifar, folder, voc
from clclip.data.readers.annotated import Annotated
from clclip.data.readers.folders import common_root
from clclip.data.readers.links import trusted_home
from clclip.data.version import (
    ANNOTATED,
    FORMATS,
    check_root,
    data_version,
    declared_classes,
    merged_classes,
    read_annotated,
)

__all__ = ["data_version", "declared_classes", "prepare"]

logger = logging.getLogger(__name__)


SPEC_TYPES: dict[str, type | tuple[type, ...]] = {
    "test_fraction": float,
    "split_seed": int,
    "download": bool,
    "year": (int, str),
    "draw": int,
    "difficulty": dict,
}
"""Keys of a data spec that are no text."""

_CHOICES = {
    "on_bad_box": ("fail", "clip", "skip"),
    "on_bad_image": ("fail", "skip"),
    "exif": ("apply", "ignore"),
    "links": ("follow", "refuse"),
}


def prepare(spec: dict[str, Any], out: Path, named: Collection[str] | None = None) -> None:
    """Verify and index a data set into ``out``: index.json, train.json, test.json.

    Args:
        spec: {"format": shapes | coco | voc | yolo | folder | cifar100, "root": absolute folder,
            ...}, and "on_bad_image" (fail | skip), "on_bad_box" (fail | clip | skip), "links"
            (follow | refuse), "exif" (apply | ignore). Per format:
            coco: "train", "test" (files), "images" (folder);
            voc: "year", "train", "test" (names of image lists), "download";
            yolo: "train", "test" (names of splits), "class_names", "test_fraction", "split_seed";
            folder: "train", "test", "class_names", "test_fraction", "split_seed";
            cifar100: "download"; shapes: "world", "draw", "difficulty".
        out: folder of the index; nothing in it changes unless all checks pass.
        named: the classes of the tasks. Of format folder, broken images of others are left out
            with a remark, and ``split`` refuses a later task that names such a class; None: all.

    Raises:
        InputError: if the data set, or anything in it that is not to be skipped, is wrong.
    """
    for key, value in spec.items():
        type_ = SPEC_TYPES.get(key, str)
        if value is not None and not isinstance(value, type_):
            raise InputError(f"{key} {value!r:.60}", f"data.{key}", "what `clclip describe` tells")
        if value is not None and value not in _CHOICES.get(key, (value,)):
            raise InputError(f"{key} {value!r:.60}", f"data.{key}", " or ".join(_CHOICES[key]))
    if "format" not in spec:
        raise InputError("no format", "data", FORMATS)
    if spec["format"] == "shapes":
        from clclip.data.shapes.worlds import changes, generate

        return generate(spec["world"], out, **changes(spec))
    if spec.get("download"):
        _download(spec)
    check_root(spec)
    if spec["format"] in ANNOTATED:
        return _prepare_detection(spec, out)
    if spec["format"] == "folder":
        return _prepare_folder(spec, out, named)
    if spec["format"] == "cifar100":
        return _prepare_cifar(spec, out)
    raise InputError(f"format {spec['format']!r}", "data.format", FORMATS)


def check_data(spec: dict[str, Any], named: Collection[str] | None = None) -> list[str]:
    """Return what ``prepare`` would warn of, a line each; nothing stays on the disk.

    Args:
        spec: as ``prepare`` takes it, of data that is there.
        named: as ``prepare`` takes them.

    Raises:
        InputError: where ``prepare`` would raise it.
    """
    data_logger = logging.getLogger("clclip.data")
    before = data_logger.level
    data_logger.setLevel(logging.ERROR)  # the caller says it
    try:
        with tempfile.TemporaryDirectory(prefix="clclip-") as made:
            prepare(spec, Path(made), named)
            return list(read_json(Path(made) / "index.json").get("warnings", []))
    finally:
        data_logger.setLevel(before)


def _prepare_detection(spec: dict[str, Any], out: Path) -> None:
    """Index images with boxes."""
    findings = Findings()
    splits = read_annotated(spec)
    classes = merged_classes(splits)
    root, prefixes = common_root({split: annotated.folder for split, annotated in splits.items()})
    note_detection(Path(spec["root"]), splits, prefixes, findings)
    checked = {s: _checked_images(annotated, s, spec, findings) for s, annotated in splits.items()}
    images, turned = _in_their_views(splits, checked, spec, findings)
    written: dict[str, dict[str, Any]] = {}
    for split, annotated in splits.items():
        present = images[split]
        if not present:
            raise InputError(f"no {split} image", annotated.source, "at least one image")
        sizes = {image["id"]: (image["width"], image["height"]) for image in present}
        on_bad = spec.get("on_bad_box") or "fail"
        boxes = clean_boxes(annotated, sizes, split, on_bad, findings, turned[split])
        for image in present:
            image["file_name"] = prefixes[split] + image["file_name"]
        categories = _all_categories(split, splits)
        written[split] = {"images": present, "annotations": boxes, "categories": categories}
    shown = {split: instances(data, classes) for split, data in written.items()}
    counts = {
        **{split: len(data["images"]) for split, data in written.items()},
        "boxes": {split: len(data["annotations"]) for split, data in written.items()},
        "classes": shown,
    }
    note_missing(shown, "instances", findings, spec["format"] != "voc")
    _write(spec, out, "detection", root, classes, written, counts, findings, prefixes)


def _all_categories(split: str, splits: dict[str, Annotated]) -> list[dict[str, Any]]:
    """Return the categories of a split and, behind them, those that only the other declares.

    A class that one split lacks is a class without instances there, whether declared or not.
    """
    categories = {category["id"]: category for category in splits[split].categories}
    for other in splits.values():
        for category in other.categories:
            categories.setdefault(category["id"], category)
    return list(categories.values())


def _checked_images(
    annotated: Annotated, split: str, spec: dict[str, Any], findings: Findings
) -> dict[int, Photo]:
    """Return the good images of a split by their place in the annotations."""
    on_bad, where = spec.get("on_bad_image") or "fail", annotated.where_image
    home = trusted_home(spec, annotated.folder)
    facts = verify_images(annotated.folder, annotated.images, split, on_bad, where, findings, home)
    return photos(annotated, {n: own for n, own in enumerate(facts) if own})


def _in_their_views(
    splits: dict[str, Annotated],
    checked: dict[str, dict[int, Photo]],
    spec: dict[str, Any],
    findings: Findings,
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, dict[int, tuple[int, int]]]]:
    """Choose the view of every image.

    Returns:
        Per split {"id", "file_name", "width", "height", "exif"} of the images, with "place" where
        they have one, and the sizes by id of the views not taken.
    """
    every = [photo for by_place in checked.values() for photo in by_place.values()]
    views = iter(choose_views(every, spec.get("exif"), findings))
    images: dict[str, list[dict[str, Any]]] = {}
    turned: dict[str, dict[int, tuple[int, int]]] = {}
    for split, annotated in splits.items():
        images[split], turned[split] = [], {}
        for n, photo in checked[split].items():
            number, exif = annotated.images[n]["id"], next(views)
            if isinstance(exif, InputError):
                if (spec.get("on_bad_image") or "fail") != "skip":
                    what = f"image {photo.name!r}: {exif.what}"
                    raise InputError(what, exif.where, exif.expected)
                findings.skip("image", split, photo.name, number, exif.what)
                continue
            width, height = photo.facts.size(exif)
            entry = {"id": number, "file_name": photo.name, "width": width, "height": height}
            place = {
                key: annotated.images[n][key] for key in ("place",) if key in annotated.images[n]
            }
            images[split].append(entry | {"exif": exif} | place)
            if photo.facts.orientation != 1:
                turned[split][number] = photo.facts.size(not exif)
    return images, turned


def _same(split: str) -> Callable[[int], str]:
    """Return the place of every image of a split of folders: no file lists them."""
    return lambda _: f"the {split} images"


def _prepare_folder(spec: dict[str, Any], out: Path, named: Collection[str] | None) -> None:
    """Index labelled folders; ``named`` are the classes of the tasks, None: all."""
    findings = Findings()
    root = Path(spec["root"]).absolute()
    labelled = folder.read_splits(spec, findings)
    labelled.note(root, findings)
    home, on_bad = trusted_home(spec, root), spec.get("on_bad_image") or "fail"
    named = named if on_bad == "fail" else None
    written, broken = {}, dict[str, list[str]]()
    for split, images in labelled.images.items():
        own, others = unnamed.divided(images, named)
        facts = verify_images(root, own, split, on_bad, _same(split), findings, home)
        good = {image["id"] for image, fact in zip(own, facts, strict=True) if fact}
        good |= unnamed.whole_images(root, others, split, findings, home, broken)
        present = [image for image in images if image["id"] in good]
        written[split] = {"classes": labelled.classes, "images": present}
    counts = _label_counts(written, labelled.classes)
    classes = [name for name in labelled.classes if name not in broken]
    small = [name for name in classes if counts["classes"]["train"][name] < 2]
    if small:  # only by skipping: the reader leaves out classes that have fewer
        what = f"fewer than two good training images in class {small[0]!r}"
        raise InputError(what, root, "two or more, for a spread")
    _write(
        spec, out, "classification", root, labelled.classes, written, counts, findings, None, broken
    )


def _prepare_cifar(spec: dict[str, Any], out: Path) -> None:
    """Write CIFAR-100 as PNG files and index it."""
    classes, splits = cifar.read_splits(spec)
    entries = cifar.write_images(classes, splits, out / "images")
    written = {split: {"classes": classes, "images": images} for split, images in entries.items()}
    counts, findings = _label_counts(written, classes), Findings()
    note_missing(counts["classes"], "images", findings)
    _write(spec, out, "classification", Path("images"), classes, written, counts, findings)


def _label_counts(written: dict[str, dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """Return image counts per split, and per split and class."""
    labels = {
        split: Counter(image["label"] for image in data["images"])
        for split, data in written.items()
    }
    return {
        **{split: len(data["images"]) for split, data in written.items()},
        "classes": {
            split: {name: by_class[name] for name in classes} for split, by_class in labels.items()
        },
    }


def _write(
    spec: dict[str, Any],
    out: Path,
    kind: str,
    root: Path,
    classes: list[str],
    splits: dict[str, dict[str, Any]],
    counts: dict[str, Any],
    findings: Findings,
    folders: dict[str, str] | None = None,
    broken: dict[str, list[str]] | None = None,
) -> None:
    """Write the splits and, last, the index; ``folders`` are the splits' below ``root``."""
    version = data_version(spec)
    for split, data in splits.items():
        write_json(out / f"{split}.json", data)
    write_contents(out, version, findings.contents, folders or {})
    linked = {"linked_images": findings.links} if findings.links else {}
    skipped = {f"skipped_{kind}": findings.skipped_count(k) for kind, k in _SKIPPED}
    index = {
        "id": spec.get("id") or out.name,
        "format": spec["format"],
        "version": version,
        "kind": kind,
        "root": str(root),
        "folders": folders or dict.fromkeys(splits, ""),
        "splits": {split: f"{split}.json" for split in splits},
        "classes": classes,
        "counts": {**counts, "clipped_boxes": findings.clipped, **skipped, **linked},
        "skipped": findings.skipped,
        "warnings": findings.warnings(),
        **({unnamed.KEY: broken} if broken else {}),
    }
    write_json(out / "index.json", index, indent=1)
    findings.log()
    logger.info(
        "%s: %d train and %d test images indexed", index["id"], counts["train"], counts["test"]
    )


_SKIPPED = (("images", "image"), ("boxes", "box"))


def _download(spec: dict[str, Any]) -> None:
    """Fetch a published data set into the root by torchvision, which checks the checksums.

    Raises:
        InputError: if the format has no download, or it fails.
    """
    root = Path(spec["root"])
    make_folder(root)
    if spec["format"] == "cifar100":
        return  # its reader downloads
    if spec["format"] != "voc":
        raise InputError(
            f"download of format {spec['format']!r}", "data.download", "format voc or cifar100"
        )
    if voc.is_whole(spec):
        return
    logger.info("VOC %s is not, or not whole, in %s: downloading", spec.get("year"), root)
    from torchvision.datasets import VOCDetection

    year = str(spec.get("year") or "2007")
    sets = [("trainval", year)] + ([("test", year)] if year == "2007" else [])
    for name, of in sets:
        try:
            VOCDetection(str(root), year=of, image_set=name, download=True)
        except (OSError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            expected = "a network, or the devkit in data.root"
            raise InputError(
                f"VOC {of} {name} could not be downloaded ({reason})", root, expected
            ) from None
