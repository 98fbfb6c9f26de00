"""PASCAL VOC: an XML file per image, and the list of them.

Corners are whole pixels counted from 1, and the last pixel belongs to the box.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from clclip.core.files import write_text
from clclip.data.writers.detections import Detections


def write_voc(detections: Detections, out: Path) -> None:
    """Write ``voc/Annotations/*.xml`` and ``voc/ImageSets/Main/default.txt``."""
    home = out / "voc"
    for image, stem, boxes in zip(
        detections.images, detections.stems, detections.boxes, strict=True
    ):
        page = ElementTree.Element("annotation")
        _add(page, "filename", os.path.basename(image["file_name"]))
        _add(page, "path", image["file_name"])
        size = ElementTree.SubElement(page, "size")
        for key, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
            _add(size, key, value)
        for box in boxes:
            thing = ElementTree.SubElement(page, "object")
            _add(thing, "name", detections.names[box["category_id"]])
            for key in ("truncated", "difficult"):
                _add(thing, key, 0)
            corners = ElementTree.SubElement(thing, "bndbox")
            for key, value in _corners(box["bbox"], image["width"], image["height"]).items():
                _add(corners, key, value)
            if "score" in box:
                _add(thing, "score", box["score"])
        ElementTree.indent(page)
        text = ElementTree.tostring(page, encoding="unicode")
        write_text(home / "Annotations" / f"{stem}.xml", text + "\n")
    listed = "".join(f"{stem}\n" for stem in detections.stems)
    write_text(home / "ImageSets" / "Main" / "default.txt", listed)


def _corners(box: list[float], width: int, height: int) -> dict[str, int]:
    """Return whole pixels of a box, at least one each way, inside the image."""
    x, y, w, h = box
    left, top = (min(max(round(v), 0), size - 1) for v, size in ((x, width), (y, height)))
    right = min(max(round(x + w), left + 1), width)
    bottom = min(max(round(y + h), top + 1), height)
    return {"xmin": left + 1, "ymin": top + 1, "xmax": right, "ymax": bottom}


def _add(parent: ElementTree.Element, key: str, value: Any) -> None:
    """Add a child that holds a value."""
    ElementTree.SubElement(parent, key).text = str(value)
