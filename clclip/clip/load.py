"""Building a CLIP and filling it with weights; reading ``resources/clip/{id}`` again."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from clclip.clip.embedded import model as embedded
from clclip.clip.ids import EMBEDDED
from clclip.clip.own.folder import TEXT_CONFIG
from clclip.clip.own.model_config import NAME
from clclip.clip.trunk import trunk_of
from clclip.core.artifacts import (
    read_clip,
)
from clclip.core.digest import file_sha256
from clclip.core.errors import InputError, WrongValue
from clclip.core.files import read_json
from clclip.core.weights_file import misfit, unreadable

Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class LoadedClip:
    """A frozen CLIP in evaluation mode, with the preprocessing of its inputs."""

    model: nn.Module  # open_clip's CLIP or CustomTextCLIP
    tokenizer: Tokenizer  # texts -> (N, context) token ids; made on first use
    image_size: int  # pixels, the square the CLIP was trained on
    mean: tuple[float, ...]  # of each colour channel
    std: tuple[float, ...]
    embed_dim: int
    patch: int  # pixels
    name: str  # the clip's id


def register_embedded() -> None:
    """Make the embedded architectures known to open_clip."""
    embedded.register()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip, which narrates every step of building a model, and torch's advice."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)  # without a handler, logging.warning() would install one of its own
    before = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        root.removeHandler(handler)


def build(model_name: str, tag: str | None) -> nn.Module:
    """Build a CLIP with random weights, frozen, in evaluation mode.

    The tag decides the activation (OpenAI's weights want QuickGELU) and how images are prepared.

    Raises:
        InputError: if the model cannot be built, say because its text tower lies on a hub out of
            reach.
    """
    register_embedded()
    config = open_clip.get_pretrained_cfg(model_name, tag) if tag else {}
    options = {
        "force_quick_gelu": bool(config.get("quick_gelu")),
        "force_preprocess_cfg": pixel_settings(model_name, tag),
    }
    return _made(model_name, "clip.model", options)


def build_own(folder: Path, where: object) -> nn.Module:
    """Build a CLIP with random weights from a folder's model config, as ``build`` does by name.

    Args:
        folder: what ``write_folder`` wrote.
        where: what the config is, for messages.

    Raises:
        InputError: if open_clip cannot build it, or its tower has no patch tokens.
    """
    options: dict[str, Any] = {}
    if (folder / TEXT_CONFIG).is_file():  # of a text tower that the config names on a hub
        text = read_json(folder / NAME)["model_cfg"]["text_cfg"]
        if text.get("hf_model_name"):
            local = {"hf_model_name": str(folder.resolve()), "hf_model_pretrained": False}
            options["text_cfg"] = text | local
    model = _made(f"local-dir:{folder}", where, options)
    trunk_of(model.visual, where)
    return model


def _made(name: str, where: object, options: Mapping[str, Any]) -> nn.Module:
    """Let open_clip make a model without weights."""
    try:
        with quiet():
            model = open_clip.create_model(
                name, load_weights=False, pretrained_text=False, **options
            )
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:160]
        shown = "the model" if name.startswith("local-dir:") else name
        expected = "a model that open_clip builds offline, or a network"
        raise InputError(f"{shown} cannot be built ({reason})", where, expected) from error
    return model.eval().requires_grad_(False)


def pixel_settings(model_name: str, tag: str | None) -> dict[str, Any]:
    """Return what a tag says about its images: mean, std, interpolation, resize_mode, fill_color.

    Empty without a tag that open_clip knows: its defaults, which are those of OpenAI's weights.
    """
    config = open_clip.get_pretrained_cfg(model_name, tag) if tag else {}
    names = {field.name for field in fields(PreprocessCfg)} - {"size", "mode"}
    return {name: config[name] for name in sorted(names) if config.get(name) is not None}


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill ``model`` from a .safetensors or a .pt file; nothing but tensors is ever unpickled.

    Raises:
        InputError: if the file is damaged, is of another architecture, or holds values that are not
            finite.
    """
    expected = (
        "complete weights of this very architecture (safetensors, or a .pt holding a state dict)"
    )
    try:
        with quiet(), _checked(model):
            open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except Exception as error:  # SafetensorError, UnpicklingError, KeyError, StopIteration, ...
        reason = error.what if isinstance(error, WrongValue) else _why(model, path)
        raise InputError(f"weights do not load ({reason})", path, expected) from error
    for key, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"weight {key} is not finite", path, "finite numbers")


@contextlib.contextmanager
def _checked(model: nn.Module) -> Iterator[None]:
    """Compare names and shapes before ``model`` takes a state dict, to tell of them ourselves."""
    wanted = model.state_dict()

    def load(state: dict[str, Tensor], strict: bool = True) -> Any:
        if difference := misfit(wanted, state, strict):
            raise WrongValue(difference, "the tensors of this architecture")
        return nn.Module.load_state_dict(model, state, strict=strict)

    model.load_state_dict = load
    try:
        yield
    finally:
        del model.load_state_dict


def _why(model: nn.Module, path: Path) -> str:
    """Return why ``path`` did not load though no tensor of it was compared.

    open_clip adapts biases and positions before names are compared, and may end within that.
    """
    try:
        with quiet():
            state = load_state_dict(str(path), weights_only=True)
        difference = misfit(model.state_dict(), state) if state else None
        return difference or unreadable(path)
    except Exception:  # not a state dict
        return unreadable(path)


def card_of(
    model: nn.Module, name: str, tag: str | None, clip_id: str, source: str
) -> dict[str, Any]:
    """Return clip.json: what later stages need to know without loading the weights."""
    pixels = open_clip.get_model_preprocess_cfg(model)
    size = pixels["size"]
    with torch.no_grad():
        embed_dim = _embed_dim(model)
    return {
        "id": clip_id,
        "model": name,
        "tag": tag,
        "source": source,
        "embed_dim": embed_dim,
        "image_size": size if isinstance(size, int) else size[0],
        "mean": list(pixels["mean"]),
        "std": list(pixels["std"]),
        "patch": trunk_of(model.visual, name).patch,
        "blocks": len(trunk_of(model.visual, name).blocks),
        "parameters": sum(p.numel() for p in model.parameters()),
        "open_clip": open_clip.__version__,
    }


def _embed_dim(model: nn.Module) -> int:
    """Return the width of the space that images and texts share, from the built text tower."""
    text = getattr(model, "text", model)
    projection = getattr(text, "text_projection", None)
    if isinstance(projection, nn.Linear):
        return projection.out_features
    if projection is not None:
        return int(projection.shape[1])
    length = model.context_length
    return int(model.encode_text(torch.zeros(1, length, dtype=torch.long)).shape[-1])


class _LazyTokenizer:
    """A tokenizer that is made on first use: some live on a hub, and most stages need none.

    Args:
        model_name: what open_clip knows the model by, a folder of one's own as ``local-dir:``.
    """

    def __init__(self, model_name: str) -> None:
        self.model_name = model_name
        self._made: Tokenizer | None = None

    def __call__(self, texts: list[str]) -> Tensor:
        """Return token ids (N, context)."""
        if self._made is None:
            self._made = self._make()
        return self._made(texts)

    def _make(self) -> Tokenizer:
        if self.model_name in EMBEDDED:
            return embedded.tokenizer()
        try:
            with quiet():
                return open_clip.get_tokenizer(self.model_name)
        except Exception as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            raise InputError(
                f"the tokenizer of {self.model_name} cannot be had ({reason})",
                "clip.model",
                "a network for the first use, or the hub's cache",
            ) from error


def load_clip(folder: Path) -> LoadedClip:
    """Load ``resources/clip/{id}``.

    Raises:
        InputError: if card or weights are missing, damaged, or do not belong together.
    """
    card = read_clip(folder)
    path = folder / "clip.safetensors"
    if not path.is_file():
        raise InputError("no such file", path, "the weights beside clip.json; run fetch-clip again")
    if file_sha256(path) != card["sha256"]:
        raise InputError(
            "weights changed since they were fetched", path, "the bytes that fetch-clip wrote"
        )
    name = card["model"]
    if "config_sha256" in card:
        if not (folder / NAME).is_file() or file_sha256(folder / NAME) != card["config_sha256"]:
            expected = "the bytes that fetch-clip wrote"
            raise InputError("missing or changed since it was fetched", folder / NAME, expected)
        model, name = build_own(folder, folder / NAME), f"local-dir:{folder}"
    else:
        model = build(name, card["tag"])
    _load_exact(model, path)
    return LoadedClip(
        model=model,
        tokenizer=_LazyTokenizer(name),
        image_size=card["image_size"],
        mean=tuple(card["mean"]),
        std=tuple(card["std"]),
        embed_dim=card["embed_dim"],
        patch=card["patch"],
        name=card["id"],
    )


def _load_exact(model: nn.Module, path: Path) -> None:
    """Load a state dict that ``fetch_clip`` saved from this very architecture."""
    try:
        state = load_file(path)
        reason = misfit(model.state_dict(), state)
    except (RuntimeError, SafetensorError, OSError):
        reason = unreadable(path)
    if reason:
        raise InputError(f"weights do not load ({reason})", path, "what fetch-clip wrote")
    model.load_state_dict(state, strict=True)
