"""Bad images: name -> (damage, command, parts of the message)."""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from pathlib import Path

from tests.helpers.bad_input.world import (
    BIRDS,
    SEED,
    clip_of,
    edit_json,
    features_call,
    index_of,
    picture,
    prepare_call,
)

IMAGE = "cards/images/train2.png"


def bomb(path: Path) -> None:
    """Write a PNG of a few bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b""))


def replaced(make, name: str = IMAGE):
    """Return a damage that removes a file and puts something else in its place."""

    def damage(work: Path) -> None:
        (work / name).unlink()
        make(work / name)

    return damage


def cut(name: str, size: int = 60):
    """Return a damage that keeps the first bytes of a file."""
    return lambda work: (work / name).write_bytes((work / name).read_bytes()[:size])


def content(name: str, data: bytes):
    """Return a damage that overwrites a file."""
    return lambda work: (work / name).write_bytes(data)


def link_out(path: Path) -> None:
    outside = path.parents[3] / "outside.png"
    picture(outside)
    path.symlink_to(outside)


def renamed(path: Path) -> None:
    """Another size under a name with a space, quotes, an accent and a line break."""
    odd = "a 'b' \"é\"\n.png"
    picture(path.with_name(odd), (10, 10))
    edit_json(path.parents[1] / "train.json", lambda d: d["images"][1].update(file_name=odd))


def detect(work: Path) -> list[str]:
    return ["detect", "--run", SEED, "photo.png", "--out", "found"]


def detect_after_a_good_one(work: Path) -> list[str]:
    return ["detect", "--run", SEED, "cards/images/test1.png", "photo.png", "--out", "found"]


def classify(work: Path) -> list[str]:
    return ["classify", "--run", BIRDS, "photo.png", "--out", "found.json"]


def features_marker(work: Path) -> Path:
    return next((work / "resources/features").glob("*/train/done.json"))


def features(work: Path) -> list[str]:
    """Return the command that builds the removed store of the training images again."""
    folder = features_marker(work).parent
    store = json.loads(features_marker(work).read_text())
    shutil.rmtree(folder)
    store |= {"data": index_of(work).name, "clip": clip_of(work).name}
    return features_call(folder.parent.name, store, "train")


def folder_call(work: Path) -> list[str]:
    spec = {"id": "birds", "format": "folder", "root": str(work / "birds")}
    return ["prepare", "--spec", json.dumps(spec), "--out", str(index_of(work, "birds"))]


IMAGES = {
    "missing": (
        lambda w: (w / IMAGE).unlink(),
        prepare_call,
        ["no such image", "images[1] (id 2)"],
    ),
    "truncated": (cut(IMAGE), prepare_call, ["broken image", "train2.png", "on_bad_image: skip"]),
    "empty": (content(IMAGE, b""), prepare_call, ["broken image", "train2.png"]),
    "text": (content(IMAGE, b"hello"), prepare_call, ["broken image", "complete JPEG"]),
    "bomb": (replaced(bomb), prepare_call, ["too large", "60000", "at most 89478485 pixels"]),
    "a folder": (replaced(Path.mkdir), prepare_call, ["is not a file", "train2.png"]),
    "a pipe": (replaced(os.mkfifo), prepare_call, ["is not a file", "train2.png"]),
    "link out of the root": (
        replaced(link_out),
        lambda w: prepare_call(w, links="refuse"),
        ["leaves the data set's folder", "data.links: follow"],
    ),
    "link to nothing": (
        replaced(lambda p: p.symlink_to("gone.png")),
        prepare_call,
        ["that leads nowhere", "train2.png"],
    ),
    "link to itself": (replaced(lambda p: p.symlink_to(p)), prepare_call, ["train2.png"]),
    "other size": (replaced(lambda p: picture(p, (50, 50))), prepare_call, ["50 x 50", "64 x 48"]),
    "odd name": (replaced(renamed), prepare_call, ["10 x 10", r"\n.png"]),
    "EPS in a png": (content(IMAGE, b"%!PS-Adobe-3.0 EPSF-3.0\n"), prepare_call, ["broken image"]),
    "no image given": (lambda w: None, detect, ["photo.png"]),
    "detect in a broken one": (content("photo.png", b"GIF89a"), detect, ["broken", "photo.png"]),
    "detect in a bomb": (lambda w: bomb(w / "photo.png"), detect, ["too large", "photo.png"]),
    "detect in a good one and a broken one": (
        content("photo.png", b"GIF89a"),
        detect_after_a_good_one,
        ["broken", "photo.png"],
    ),
    "detect no class": (
        lambda w: None,
        lambda w: ["detect", "--run", SEED, "cards/images", "--out", "found", "--classes", ""],
        ["an empty class name", "--classes", "ace, jack, queen"],
    ),
    "drawings over the images": (
        lambda w: None,
        ["detect", "--run", SEED, "cards/images", "--out", "cards/images"],
        ["would replace the image cards/images/test1.png", "--out"],
    ),
    "detect in an empty folder": (
        lambda w: (w / "photo.png").mkdir(),
        detect,
        ["no image", "photo.png"],
    ),
    "classify a broken one": (content("photo.png", b"\0"), classify, ["broken", "photo.png"]),
    "classify nothing": (lambda w: None, classify, ["no such image", "photo.png"]),
    "broken after indexing": (cut(IMAGE), features, ["broken image", "train2.png"]),
    "resized after indexing": (
        replaced(lambda p: picture(p, (20, 20))),
        features,
        ["20 x 20", "indexed as 64 x 48", "the file that was indexed"],
    ),
    "broken bird": (
        content("birds/train/owl/2.png", b"x"),
        folder_call,
        ["broken image", "owl/2.png"],
    ),
    "class folder empty": (
        lambda w: [p.unlink() for p in (w / "birds/train/owl").iterdir()],
        ["describe", "birds.yaml"],
        ["empty class folder 'owl'", "at least one image"],
    ),
}


CASES = {f"images: {name}": case for name, case in IMAGES.items()}
