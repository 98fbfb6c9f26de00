"""Write one small set of pictures in the four layouts that clclip reads, to copy from.

uv run python docs/examples/own_data.py own

own/coco    images/*.png, train.json, test.json (COCO)
own/voc     Annotations/*.xml, ImageSets/Main/*.txt, JPEGImages/*.jpg (PASCAL VOC)
own/yolo    data.yaml, images/{train,val}/*.png, labels/{train,val}/*.txt (YOLO)
own/folder  train/CLASS/*.png, test/CLASS/*.png (one object a picture, for classification)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from clclip.data.shapes.worlds import generate


def boxes_of(truth: dict, image: dict) -> list[tuple[str, list[int]]]:
    """Return (class, [x, y, width, height]) of the objects on an image."""
    names = {c["id"]: c["name"] for c in truth["categories"]}
    own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
    return [(names[a["category_id"]], a["bbox"]) for a in own]


def write_voc(folder: Path, split: str, truth: dict, pictures: Path) -> None:
    """Write a split as PASCAL VOC: a list, and per image a JPEG and an XML file.

    VOC counts pixels from 1, and a box's last pixel belongs to it.
    """
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    stems = []
    for image in truth["images"]:
        stem = Path(image["file_name"]).stem
        stems.append(stem)
        picture = Image.open(pictures / image["file_name"])
        picture.save(folder / "JPEGImages" / f"{stem}.jpg", quality=95)
        page = ElementTree.Element("annotation")
        ElementTree.SubElement(page, "filename").text = f"{stem}.jpg"
        size = ElementTree.SubElement(page, "size")
        for key, value in (("width", image["width"]), ("height", image["height"]), ("depth", 3)):
            ElementTree.SubElement(size, key).text = str(value)
        for name, (x, y, w, h) in boxes_of(truth, image):
            thing = ElementTree.SubElement(page, "object")
            ElementTree.SubElement(thing, "name").text = name
            ElementTree.SubElement(thing, "difficult").text = "0"
            box = ElementTree.SubElement(thing, "bndbox")
            for key, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + w), ("ymax", y + h)):
                ElementTree.SubElement(box, key).text = str(value)
        ElementTree.ElementTree(page).write(folder / "Annotations" / f"{stem}.xml")
    (folder / "ImageSets/Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")


def write_yolo(folder: Path, split: str, truth: dict, pictures: Path) -> None:
    """Write a split as YOLO: per image a text file of lines ``class x y width height``.

    x, y is the centre of the box; all four are fractions of the image.
    """
    names = [c["name"] for c in truth["categories"]]
    part = {"train": "train", "test": "val"}[split]
    for kind in ("images", "labels"):
        (folder / kind / part).mkdir(parents=True, exist_ok=True)
    for image in truth["images"]:
        stem, width, height = Path(image["file_name"]).stem, image["width"], image["height"]
        Image.open(pictures / image["file_name"]).save(folder / f"images/{part}/{stem}.png")
        lines = [
            f"{names.index(name)} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} "
            f"{w / width:.6f} {h / height:.6f}\n"
            for name, (x, y, w, h) in boxes_of(truth, image)
        ]
        (folder / f"labels/{part}/{stem}.txt").write_text("".join(lines))
    listed = "".join(f"  {number}: {name}\n" for number, name in enumerate(names))
    text = f"train: images/train\nval: images/val\nnames:\n{listed}"
    (folder / "data.yaml").write_text(text)


def write_folders(folder: Path, split: str, truth: dict, pictures: Path) -> None:
    """Write every object of a split as a picture of its own, in a folder named by its class."""
    for image in truth["images"]:
        picture = Image.open(pictures / image["file_name"])
        for number, (name, (x, y, w, h)) in enumerate(boxes_of(truth, image)):
            home = folder / split / name
            home.mkdir(parents=True, exist_ok=True)
            crop = picture.crop((x, y, x + w, y + h))
            crop.save(home / f"{Path(image['file_name']).stem}_{number}.png")


def main(out: Path) -> None:
    """Draw 60 training and 40 test scenes and write them in all four layouts."""
    generate("shapes20_tiny", out / "coco")
    (out / "coco/index.json").unlink()  # of the generator; your own data has none
    for split in ("train", "test"):
        truth = json.loads((out / "coco" / f"{split}.json").read_text())
        write_voc(out / "voc", split, truth, out / "coco/images")
        write_yolo(out / "yolo", split, truth, out / "coco/images")
        write_folders(out / "folder", split, truth, out / "coco/images")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
