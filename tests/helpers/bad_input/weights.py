"""Bad weights: name -> (damage, command, parts of the message)."""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import shutil
import struct
from pathlib import Path

import numpy as np

from tests.helpers.bad_input.files import IMAGE, content, cut
from tests.helpers.bad_input.world import BIRDS, SEED, clip_of, edit_tensors

WEIGHTS = f"{SEED}/task1/weights.safetensors"


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


def torch_saved(value):
    """Return a damage that saves a value as torch does."""

    def damage(work: Path) -> None:
        import torch

        torch.save(value, work / "w.pt")

    return damage


def torch_script(work: Path) -> None:
    import torch

    torch.jit.trace(torch.nn.Identity(), torch.zeros(1)).save(str(work / "w.pt"))


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


def texts(change):
    """Return a damage that changes the rows of all text embeddings."""

    def damage(work: Path) -> None:
        for path in (work / "resources/text").glob("*.safetensors"):
            edit_tensors(path, lambda t: t.update(text=change(t["text"])))

    return damage


SAFE = "w.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"
RECORD = f"{BIRDS}/task2/weights.safetensors"
NO_UNITS = ["rows that are no unit vectors", "clclip embed-text"]
WEIGHT_CASES = {
    "not there": (lambda w: None, fetch(SAFE), ["no such weights file", "clip.file"]),
    "other suffix": (content("w.zip", b"x"), fetch("w.zip"), ["'w.zip'", ".safetensors"]),
    "a folder": (lambda w: (w / SAFE).mkdir(), fetch(SAFE), ["no such weights file"]),
    "empty": (content(SAFE, b""), fetch(SAFE), ["do not load", SAFE]),
    "text": (content(SAFE, b"hello world"), fetch(SAFE), ["do not load", SAFE]),
    "pickle": (pickled, fetch("w.pt"), ["do not load", "w.pt", "Python objects besides tensors"]),
    "pickle in a zip": (torch_zip, fetch("w.pt"), ["do not load", "w.pt", "besides tensors"]),
    "web page": (content("w.pt", b"\n<!DOCTYPE html>"), fetch("w.pt"), ["is a web page"]),
    "web page as safetensors": (content(SAFE, b"<html>"), fetch(SAFE), ["is a web page"]),
    "Git LFS pointer": (content("w.bin", LFS), fetch("w.bin"), ["Git LFS pointer", "git lfs pull"]),
    "text as .pt": (content("w.pt", b"hello"), fetch("w.pt"), ["not written by torch.save"]),
    "list of tensors": (torch_saved([1]), fetch("w.pt"), ["no state dict"]),
    "state dict of nothing": (torch_saved({"state_dict": {}}), fetch("w.pt"), ["no state dict"]),
    "other saved values": (torch_saved({"epoch": 3}), fetch("w.pt"), ["holds besides epoch"]),
    "checkpoint of Lightning": (
        torch_saved({"state_dict": {}, "hyper_parameters": argparse.Namespace(lr=1)}),
        fetch("w.pt"),
        ["Python objects besides tensors"],
    ),
    "TorchScript": (torch_script, fetch("w.pt"), ["a TorchScript program"]),
    "safetensors named .pt": (
        lambda w: shutil.copy(clip_of(w) / "clip.safetensors", w / "w.pt"),
        fetch("w.pt"),
        ["is a safetensors file, its name says .pt"],
    ),
    "torch file named safetensors": (
        lambda w: torch_saved({"a": 1})(w) or ((w / "w.pt").rename(w / SAFE) and None),
        fetch(SAFE),
        ["written by torch.save, its name says safetensors"],
    ),
    "tensor missing": (
        clip_tensors(lambda t: t.pop(sorted(t)[0]) is None),
        fetch(SAFE),
        ["do not load (lacks ln_final.bias)", SAFE, "this very architecture"],
    ),
    "tensors of other shapes": (
        clip_tensors(reshape),
        fetch(SAFE),
        ["ln_final.bias is 3 x 5 instead of 128"],
    ),
    "tensor too many": (
        clip_tensors(lambda t: t.update(extra=np.zeros(3, np.float32))),
        fetch(SAFE),
        ["holds besides extra"],
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
    "text of integers": (texts(lambda v: v.astype(np.int32)), stage("train"), NO_UNITS),
    "text cut to five columns": (texts(lambda v: v[:, :5].copy()), stage("train"), NO_UNITS),
    "text not finite": (texts(lambda v: v * math.nan), stage("train"), NO_UNITS),
    "text of fewer classes": (texts(lambda v: v[:1]), stage("train"), ["3 names for 1 rows"]),
    "bytes behind the end": (
        lambda w: (w / WEIGHTS).write_bytes((w / WEIGHTS).read_bytes() + b"xx"),
        stage("predict"),
        ["not a whole safetensors", "not fully covered"],
    ),
    "weights of task 2 for task 1": (
        lambda w: shutil.copy(w / f"{SEED}/task2/weights.safetensors", w / WEIGHTS),
        stage("predict"),
        ["is missing", "weights made with this task's switches"],
    ),
    "classifier of integers": (
        tensors(lambda t: t.update({k: v.astype(np.int32) for k, v in t.items()}), RECORD),
        stage("predict", 2, BIRDS),
        ["of type torch.int32", "task2/weights.safetensors", "floating point"],
    ),
    "classifier not finite": (
        tensors(first_to_nan, RECORD),
        stage("predict", 2, BIRDS),
        ["is not finite", "task2/weights.safetensors"],
    ),
    "classifier of another width": (
        tensors(lambda t: t.update({k: v[..., :3].copy() for k, v in t.items()}), RECORD),
        stage("predict", 2, BIRDS),
        ["do not fit", "results/birds/seed0", "switches and CLIP"],
    ),
    "classifier with text of another width": (
        tensors(lambda t: t.update(text=t["text"][:, :3].copy()), RECORD),
        stage("predict", 2, BIRDS),
        ["do not fit", "results/birds/seed0"],
    ),
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


CASES = {f"weights: {name}": case for name, case in WEIGHT_CASES.items()}
