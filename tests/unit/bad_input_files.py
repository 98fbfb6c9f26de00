"""Bad images and weights: name -> (damage, command, parts of the message)."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from bad_input_world import (
    BIRDS,
    SEED,
    clip_of,
    edit_json,
    edit_tensors,
    features_call,
    index_of,
    picture,
    prepare_call,
)

IMAGE = "cards/images/train2.png"
WEIGHTS = f"{SEED}/task1/weights.safetensors"


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
    "link out of the root": (replaced(link_out), prepare_call, ["leaves the image folder"]),
    "link to itself": (replaced(lambda p: p.symlink_to(p)), prepare_call, ["train2.png"]),
    "other size": (replaced(lambda p: picture(p, (50, 50))), prepare_call, ["50 x 50", "64 x 48"]),
    "odd name": (replaced(renamed), prepare_call, ["10 x 10", r"\n.png"]),
    "EPS in a png": (content(IMAGE, b"%!PS-Adobe-3.0 EPSF-3.0\n"), prepare_call, ["broken image"]),
    "no image given": (lambda w: None, detect, ["photo.png"]),
    "detect in a broken one": (content("photo.png", b"GIF89a"), detect, ["broken", "photo.png"]),
    "detect in a bomb": (lambda w: bomb(w / "photo.png"), detect, ["too large", "photo.png"]),
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
        folder_call,
        ["empty class folder 'owl'", "at least one image"],
    ),
}


def fetch(name: str, model: str = "embedded", tag: str | None = None):
    """Return a command that fetches a CLIP from a local file over the one that is there."""

    def call(work: Path) -> list[str]:
        clip = {"model": model, "tag": tag, "file": str(work / name)}
        return ["fetch-clip", "--clip", json.dumps(clip), "--out", str(clip_of(work))]

    return call


class Evil:
    """What a pickle would run."""

    def __reduce__(self):
        return (os.system, ("touch pwned",))


def pickled(work: Path) -> None:
    (work / "w.pt").write_bytes(pickle.dumps(Evil()))


def torch_zip(work: Path) -> None:
    import torch

    torch.save({"state_dict": Evil()}, work / "w.pt")


def clip_tensors(change):
    """Return a damage that copies the CLIP's weights to w.safetensors and changes them."""

    def damage(work: Path) -> None:
        shutil.copy(clip_of(work) / "clip.safetensors", work / "w.safetensors")
        edit_tensors(work / "w.safetensors", change)

    return damage


def first_to_nan(tensors: dict[str, np.ndarray]) -> None:
    name = next(n for n, v in tensors.items() if v.dtype == np.float32 and v.size > 1)
    tensors[name] = np.full_like(tensors[name], math.nan)


def stage(name: str, task: int = 2, run: str = SEED):
    """Return the command of a stage of a task."""
    return lambda work: [name, "--task", f"{run}/task{task}/task.json"]


def tensors(change, name: str = WEIGHTS):
    return lambda work: edit_tensors(work / name, change)


def reshape(values: dict[str, np.ndarray]) -> None:
    name = sorted(values)[0]
    values[name] = np.zeros((3, 5), np.float32)


def flip_header(name: str):
    """Return a damage that makes the header's length absurd."""

    def damage(work: Path) -> None:
        data = (work / name).read_bytes()
        (work / name).write_bytes(struct.pack("<Q", 2**62) + data[8:])

    return damage


def clip_changed(work: Path) -> None:
    path = clip_of(work) / "clip.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def text_of(work: Path) -> str:
    return str(next((work / "resources/text").glob("*.safetensors")).relative_to(work))


def embed(work: Path) -> list[str]:
    return ["embed-text", "--clip", str(clip_of(work)), "--names", '["x"]', "--out", text_of(work)]


def all_texts(data: bytes):
    return lambda w: [p.write_bytes(data) for p in (w / "resources/text").glob("*.safetensors")]


SAFE = "w.safetensors"
WEIGHT_CASES = {
    "not there": (lambda w: None, fetch(SAFE), ["no such weights file", "clip.file"]),
    "other suffix": (content("w.zip", b"x"), fetch("w.zip"), ["'w.zip'", ".safetensors"]),
    "a folder": (lambda w: (w / SAFE).mkdir(), fetch(SAFE), ["no such weights file"]),
    "empty": (content(SAFE, b""), fetch(SAFE), ["do not load", SAFE]),
    "text": (content(SAFE, b"hello world"), fetch(SAFE), ["do not load", SAFE]),
    "pickle": (pickled, fetch("w.pt"), ["do not load", "w.pt"]),
    "pickle in a zip": (torch_zip, fetch("w.pt"), ["do not load", "w.pt"]),
    "tensor missing": (
        clip_tensors(lambda t: t.pop(sorted(t)[0]) is None),
        fetch(SAFE),
        ["do not load", SAFE, "this very architecture"],
    ),
    "not finite": (clip_tensors(first_to_nan), fetch(SAFE), ["is not finite", SAFE]),
    "another tower": (
        clip_tensors(lambda t: None),
        fetch(SAFE, "ViT-B-32", "openai"),
        ["do not load", SAFE],
    ),
    "CLIP tampered with": (clip_changed, embed, ["changed since they were fetched"]),
    "CLIP card cut": (
        lambda w: (clip_of(w) / "clip.json").write_text("{"),
        embed,
        ["not JSON", "clip.json"],
    ),
    "CLIP card of a list": (
        lambda w: (clip_of(w) / "clip.json").write_text("[]"),
        embed,
        ["clip.json", "fetch-clip"],
    ),
    "text cut": (all_texts(b"abc"), stage("train"), ["not text embeddings", "embed-text"]),
    "first task gone": (lambda w: (w / WEIGHTS).unlink(), stage("train"), ["cannot be read"]),
    "first task cut": (cut(WEIGHTS, 300), stage("train"), ["not a whole safetensors", WEIGHTS]),
    "first task empty": (content(WEIGHTS, b""), stage("predict"), ["not a whole safetensors"]),
    "header absurd": (flip_header(WEIGHTS), stage("predict"), ["not a whole safetensors"]),
    "other shape": (tensors(reshape), stage("predict"), ["does not fit", WEIGHTS, "switches"]),
    "unknown tensor": (
        tensors(lambda t: t.update(extra=np.zeros(3, np.float32))),
        stage("predict"),
        ["'extra'", "does not fit"],
    ),
    "tensor gone": (
        tensors(lambda t: t.pop(sorted(t)[0]) is None),
        stage("predict"),
        ["is missing", "switches"],
    ),
    "not a number": (tensors(first_to_nan), stage("predict"), ["not finite", WEIGHTS]),
    "a pickle": (
        content(WEIGHTS, pickle.dumps(Evil())),
        stage("predict"),
        ["not a whole safetensors"],
    ),
    "record cut": (
        cut(f"{BIRDS}/task1/weights.safetensors", 100),
        stage("train", 2, BIRDS),
        ["not readable", "clclip train"],
    ),
    "record of another method": (
        tensors(lambda t: t.clear(), f"{BIRDS}/task1/weights.safetensors"),
        stage("predict", 2, BIRDS),
        ["weights.safetensors"],
    ),
    "run without weights": (
        lambda w: [p.unlink() for p in (w / SEED).glob("*/weights.safetensors")],
        lambda w: ["detect", "--run", SEED, IMAGE, "--out", "found"],
        ["no trained task", "finished run"],
    ),
}


CASES = {
    f"{area}: {name}": case
    for area, cases in (("images", IMAGES), ("weights", WEIGHT_CASES))
    for name, case in cases.items()
}
