"""CIFAR-100 as labelled PNG files, so that every later stage reads images in one way.

Two local layouts: ``cifar-100-python`` through torchvision, which checks the md5 of every file
before it unpickles it, and ``cifar-100-binary``, which needs no pickle.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from clclip.core.errors import InputError
from clclip.core.files import replacing
from clclip.data.readers.annotated import check_class_name

logger = logging.getLogger(__name__)

_PYTHON, _BINARY = "cifar-100-python", "cifar-100-binary"
_RECORD = 2 + 3 * 32 * 32  # coarse label, fine label, then red, green, blue planes of 32 x 32

# The names of the fine labels in their published order, for checks that must not read the data.
CIFAR100_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house "
    "kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle "
    "mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table "
    "tank telephone television tiger tractor train trout tulip turtle wardrobe whale "
    "willow_tree wolf woman worm"
).split()


def binary_files(spec: dict[str, Any]) -> list[Path]:
    """Return train.bin, test.bin and the names of the binary layout, or [] where it is not used."""
    folder = Path(spec["root"]) / _BINARY
    names = ("train.bin", "test.bin", "fine_label_names.txt")
    return [folder / name for name in names] if folder.is_dir() else []


def check_layout(spec: dict[str, Any]) -> None:
    """Raise InputError unless one of the two layouts is in ``spec["root"]``."""
    root = Path(spec["root"])
    if not any((root / name).is_dir() for name in (_PYTHON, _BINARY)):
        expected = f"{_PYTHON} or {_BINARY} in it (or data.download: true, with a network)"
        raise InputError("no CIFAR-100", root, expected)


def read_splits(
    spec: dict[str, Any],
) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Read CIFAR-100 from ``spec["root"]``.

    Returns:
        (class names, {"train": (images uint8 (N, 32, 32, 3), labels (N,)), "test": ...}).

    Raises:
        InputError: if neither layout is there, or a file is damaged.
    """
    files = binary_files(spec)
    if not files:
        return _read_python(spec)
    for path in files:
        if not path.is_file():
            raise InputError(
                f"no file {path.name}", path.parent, "the three files of the binary CIFAR-100"
            )
    text = files[2].read_text(encoding="utf-8", errors="replace")
    names = [check_class_name(line.strip(), files[2]) for line in text.splitlines() if line.strip()]
    return names, {"train": _read_binary(files[0], names), "test": _read_binary(files[1], names)}


def _read_binary(path: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of 3074-byte records."""
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    if data.size == 0 or data.size % _RECORD:
        raise InputError(f"{data.size} bytes", path, f"a multiple of {_RECORD} (truncated file?)")
    records = data.reshape(-1, _RECORD)
    labels = records[:, 1].astype(int)
    if labels.max() >= len(names):
        raise InputError(f"label {labels.max()}", path, f"labels 0 to {len(names) - 1}")
    planes = records[:, 2:].reshape(-1, 3, 32, 32)  # (N, channel, row, column)
    return planes.transpose(0, 2, 3, 1), labels


def _read_python(
    spec: dict[str, Any],
) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Read, and on request download, the python layout through torchvision."""
    from torchvision.datasets import CIFAR100

    root, download = Path(spec["root"]), bool(spec.get("download"))
    splits = {}
    for split in ("train", "test"):
        try:
            data = CIFAR100(str(root), train=split == "train", download=download)
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            expected = f"{_PYTHON} or {_BINARY} in it (or data.download: true, with a network)"
            raise InputError(f"no intact CIFAR-100 ({reason})", root, expected) from None
        splits[split] = (np.asarray(data.data), np.asarray(data.targets))
    return list(data.classes), splits


def write_images(
    names: list[str], splits: dict[str, tuple[np.ndarray, np.ndarray]], out: Path
) -> dict[str, list[dict[str, Any]]]:
    """Write ``out/{split}/{k}.png``; return {"id", "file_name", "label"} per image and split."""
    entries: dict[str, list[dict[str, Any]]] = {}
    number = 0
    for split, (images, labels) in splits.items():
        entries[split] = []
        for k, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            number += 1
            file_name = f"{split}/{k:05d}.png"
            with replacing(out / file_name) as temporary:
                Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, compress_level=1)
            entries[split].append({"id": number, "file_name": file_name, "label": names[label]})
        logger.info("%s: %d images written", split, len(entries[split]))
    return entries
