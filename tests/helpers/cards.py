"""A data set of three classes with odd boxes, in two formats, and an experiment on it."""

import json
from pathlib import Path

import yaml
from PIL import Image

NAMES = ["ace", "jack", "queen"]


ON_IMAGES = {  # image -> (class, flag)
    1: [("ace", "")],
    2: [("ace", ""), ("jack", "")],
    3: [("jack", "iscrowd"), ("ace", "")],
    4: [("jack", "")],
    5: [("jack", ""), ("ace", "ignore")],
    6: [("jack", ""), ("ace", "iscrowd")],
    7: [("queen", ""), ("jack", "")],
    8: [("queen", "ignore")],
    9: [("queen", ""), ("jack", "ignore")],
    10: [],
}


def write_coco(root: Path, change=lambda train: None) -> dict:
    """Write a COCO data set whose training images bear ON_IMAGES."""
    for split, shown in (("train", ON_IMAGES), ("test", {1: [("ace", "")]})):
        found = {"images": [], "annotations": [], "categories": []}
        found["categories"] = [{"id": k, "name": name} for k, name in enumerate(NAMES, 1)]
        for number, objects in shown.items():
            name = f"{split}{number}.png"
            found["images"].append({"id": number, "file_name": name, "width": 32, "height": 24})
            (root / "images").mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (32, 24)).save(root / "images" / name)
            for place, (label, flag) in enumerate(objects):
                box = {"id": 10 * number + place, "image_id": number, "bbox": [9 * place, 1, 8, 9]}
                box |= {"category_id": NAMES.index(label) + 1, "area": 72, "iscrowd": 0}
                found["annotations"].append(box | ({flag: 1} if flag else {}))
        change(found) if split == "train" else None
        (root / f"{split}.json").write_text(json.dumps(found))
    return {"format": "coco", "root": root.name, "train": "train.json", "test": "test.json"}


def write_voc(root: Path) -> dict:
    """Write the same as a VOC devkit; what is crowd or ignored there is difficult here."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for split, shown in (("trainval", ON_IMAGES), ("test", {11: [("ace", "")]})):
        stems = [f"{number:06d}" for number in shown]
        (root / f"ImageSets/Main/{split}.txt").write_text("\n".join(stems))
        for stem, objects in zip(stems, shown.values(), strict=True):
            Image.new("RGB", (32, 24)).save(root / f"JPEGImages/{stem}.jpg")
            text = "<annotation><size><width>32</width><height>24</height></size>"
            for label, flag in objects:
                text += f"<object><name>{label}</name><difficult>{int(bool(flag))}</difficult>"
                text += "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
                text += "</object>"
            (root / f"Annotations/{stem}.xml").write_text(f"{text}</annotation>")
    return {"format": "voc", "root": root.name}


def write_experiment(folder: Path, data: dict, **keys) -> str:
    """Write an experiment file; return its path."""
    values = {"kind": "detection", "method": "clclip", "tasks": [[name] for name in NAMES]}
    (folder / "mine.yaml").write_text(yaml.safe_dump(values | {"data": data} | keys))
    return str(folder / "mine.yaml")
