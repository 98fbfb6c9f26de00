"""open_clip's model config (``open_clip_config.json``), read and checked without importing it.

Two forms are read: what open_clip keeps in its own list, ``{"embed_dim", "vision_cfg", "text_cfg",
...}``, to which ``preprocess_cfg`` may be added, and what its hub folders hold, ``{"model_cfg":
{...}, "preprocess_cfg": {...}}``. The second is what stages are given.
"""

from __future__ import annotations

import ast
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from clclip.core.errors import InputError, nearest
from clclip.core.models import open_clip_folders

NAME = "open_clip_config.json"  # open_clip's name of such a file in a folder or on a hub
MAX_BYTES = 65_536  # shipped ones take at most 1 KB; the text is handed to a job as an argument
SECTIONS = ("vision_cfg", "text_cfg")
_CLASSES = {"vision_cfg": "CLIPVisionCfg", "text_cfg": "CLIPTextCfg"}
_SIZES = {  # what must be a number from 1 wherever it stands
    "vision_cfg": ("image_size", "patch_size", "layers", "width", "head_width"),
    "text_cfg": ("context_length", "vocab_size", "width", "heads", "layers"),
}
_CLIP_VOCABULARY = 49_408  # of the tokenizer that open_clip takes where a config names none
_PIXELS = ("size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color")
_CHOICES = {
    "mode": ("RGB",),
    "interpolation": ("bicubic", "bilinear", "random"),
    "resize_mode": ("shortest", "longest", "squash"),
}
NO_TOKENS = ("convnext", "swin", "fastvit", "vit_relpos", "resnet")  # of timm, see clip/trunk.py
_EXPECTED = "an open_clip model config: embed_dim, vision_cfg and text_cfg"


def read_text(path: Path, where: object) -> str:
    """Return the text of a config file, byte for byte.

    Raises:
        InputError: if it is missing, unreadable, too large or no UTF-8.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise Missing(f"no such model config {str(path)!r}", where, _EXPECTED) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", path, _EXPECTED) from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{len(data)} bytes", path, f"{_EXPECTED}, at most {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"not JSON in UTF-8 ({error.reason})", path, _EXPECTED) from None


class Missing(InputError):
    """What a CLIP is made of is not, or no longer, where it was said to be."""


def parsed(text: str, where: object, listed: bool = True) -> dict[str, Any]:
    """Return a config in the hub's form: {"model_cfg": {...}, "preprocess_cfg": {...}}.

    Args:
        text: the file's text.
        where: its place, for messages.
        listed: whether the form of open_clip's list is right too. If not, the file is one of
            open_clip's folders, of which open_clip itself overlooks keys that it does not know
            beside ``model_cfg`` and in ``preprocess_cfg``.

    Raises:
        InputError: if it is no JSON, lacks a section, holds unknown keys or impossible sizes, or
            describes a tower without patch tokens.
    """
    try:
        config = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON ({error})", where, _EXPECTED) from None
    config = _object(config, where)
    if "model_cfg" in config:
        model, others = _object(config["model_cfg"], f"{where}: model_cfg"), dict(config)
        place = f"{where}: model_cfg"
        del others["model_cfg"]
        pixels = others.pop("preprocess_cfg", None)
        if listed and others:
            raise _unknown(next(iter(others)), ("model_cfg", "preprocess_cfg"), where)
    elif listed:
        model, place = dict(config), str(where)
        pixels = model.pop("preprocess_cfg", None)
    else:
        raise InputError("no key 'model_cfg'", where, f"{NAME} as open_clip writes it")
    _check_model(model, place)
    pixels = {} if pixels is None else _object(pixels, f"{where}: preprocess_cfg")
    return {
        "model_cfg": model,
        "preprocess_cfg": _pixels(pixels, f"{where}: preprocess_cfg", listed),
    }


def vision_of(text: str) -> dict[str, Any]:
    """Return the ``vision_cfg`` of a config that ``parsed`` has passed."""
    config = json.loads(text.removeprefix("\ufeff"))
    return dict(config.get("model_cfg", config)["vision_cfg"])


def tokenizer_name(config: dict[str, Any]) -> str | None:
    """Return the hub's name of a parsed config's tokenizer, None for CLIP's own."""
    return config["model_cfg"]["text_cfg"].get("hf_tokenizer_name") or None


def has_patch_tokens(vision: dict[str, Any]) -> bool:
    """Return whether features can be taken from a tower: False for what is surely no ViT."""
    timm = str(vision.get("timm_model_name") or "")
    return not isinstance(vision.get("layers"), list) and not timm.startswith(NO_TOKENS)


def _check_model(model: dict[str, Any], place: str) -> None:
    """Refuse a ``model_cfg`` that open_clip could not build."""
    for key in ("embed_dim", *SECTIONS):
        if key not in model:
            raise InputError(f"no key {key!r}", place, _EXPECTED)
    known = known_keys()
    if known and (extra := [key for key in model if key not in known["model_cfg"]]):
        raise _unknown(extra[0], known["model_cfg"], place)
    _check_size(model["embed_dim"], f"{place}: embed_dim")
    for section in SECTIONS:
        values, here = _object(model[section], f"{place}: {section}"), f"{place}: {section}"
        if known and (extra := [key for key in values if key not in known[section]]):
            raise _unknown(extra[0], known[section], here)
        if section == "vision_cfg" and not has_patch_tokens(values):
            tower = values.get("timm_model_name") or "a ResNet"
            raise InputError(f"{tower} has no patch tokens", here, "a vision transformer")
        for key in _SIZES[section]:
            if key in values:
                pair = section == "vision_cfg" and key in ("image_size", "patch_size")
                _check_size(values[key], f"{here}: {key}", pair)
    text = model["text_cfg"]
    vocabulary = text.get("vocab_size", _CLIP_VOCABULARY)
    others = text.get("hf_tokenizer_name") or text.get("hf_model_name")
    if not others and vocabulary < _CLIP_VOCABULARY:
        expected = f"{_CLIP_VOCABULARY} for CLIP's own tokenizer, or hf_tokenizer_name"
        raise InputError(f"vocab_size {vocabulary}", f"{place}: text_cfg", expected)


def _object(value: Any, where: object) -> dict[str, Any]:
    """Return ``value`` if it is a JSON object; InputError otherwise."""
    if not isinstance(value, dict):
        raise InputError(f"got {value!r:.60}", where, f"an object, as in {_EXPECTED}")
    return value


def _unknown(key: str, known: tuple[str, ...], where: object) -> InputError:
    """Return the error about an unknown key."""
    return InputError(f"unknown key {key!r}{nearest(key, known)}", where, "keys that open_clip has")


def _check_size(value: Any, where: str, pair: bool = False) -> None:
    """Refuse what is no whole number from 1; where ``pair``, two equal ones are right too."""
    values = value if pair and isinstance(value, list) and len(value) == 2 else [value]
    right = all(type(v) is int and v >= 1 for v in values) and len(set(map(str, values))) == 1
    if not right:
        raise InputError(f"got {value!r:.60}", where, "a whole number from 1")


def _pixels(values: dict[str, Any], where: str, strict: bool) -> dict[str, Any]:
    """Return the known entries of ``preprocess_cfg`` that are given, statistics as lists."""
    extra = [key for key in values if key not in _PIXELS]
    if strict and extra:
        raise _unknown(extra[0], _PIXELS, where)
    result = {key: values[key] for key in _PIXELS if values.get(key) is not None}
    for key in ("mean", "std"):
        if key in result:
            three = result[key] if isinstance(result[key], list) else [result[key]] * 3
            right = len(three) == 3 and all(
                type(v) in (int, float) and math.isfinite(v) and (key == "mean" or v > 0)
                for v in three
            )
            if not right:
                wanted = "three numbers" + (" above 0" if key == "std" else "")
                raise InputError(f"got {values[key]!r:.60}", f"{where}: {key}", wanted)
            result[key] = three
    for key, choices in _CHOICES.items():
        if key in result and result[key] not in choices:
            raise InputError(
                f"got {result[key]!r:.60}", f"{where}: {key}", f"one of {', '.join(choices)}"
            )
    return result


@cache
def known_keys() -> dict[str, tuple[str, ...]] | None:
    """Return the keys that open_clip's classes take, from its source; None if not as expected."""
    for folder in open_clip_folders():
        try:
            tree = ast.parse((folder.parent / "model.py").read_text(encoding="utf-8"))
            classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
            keys = {section: _fields(classes[name]) for section, name in _CLASSES.items()}
            made = [node for node in classes["CLIP"].body if isinstance(node, ast.FunctionDef)]
            arguments = next(node.args.args for node in made if node.name == "__init__")
        except (OSError, SyntaxError, ValueError, KeyError, StopIteration, RecursionError):
            return None
        own = [a.arg for a in arguments if a.arg not in ("self", "cast_dtype", "output_dict")]
        # popped before the class is made, and those of CoCa, which is another class
        return keys | {"model_cfg": (*own, "custom_text", "multimodal_cfg", "pad_id")}
    return None


def _fields(node: ast.ClassDef) -> tuple[str, ...]:
    """Return the names of a dataclass's fields."""
    fields = (n.target for n in node.body if isinstance(n, ast.AnnAssign))
    return tuple(target.id for target in fields if isinstance(target, ast.Name))
