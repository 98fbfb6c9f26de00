"""From a network to an ONNX file: the exporter's settings, and what is free in the tower."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clclip.clip.trunk import OpenClipTrunk, Trunk, resized_position
from clclip.core.errors import InputError
from clclip.core.files import replacing

OPSET = 18
FILE = "model.onnx"


def check_onnx() -> None:
    """Refuse now where the packages of the extra ``onnx`` are missing.

    Raises:
        InputError: if one is.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            expected = "`pip install 'clclip[onnx]'`"
            raise InputError(f"the package {name} is missing", "--onnx", expected)


@contextlib.contextmanager
def write_graph(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    metadata: Mapping[str, str],
    *,
    names: tuple[Sequence[str], Sequence[str]],
    dynamic: Mapping[str, Any],
    translations: Mapping[Any, Callable[..., Any]] | None = None,
) -> Iterator[Path]:
    """Export a network; yield the file to look at, which settles as ``path`` if nothing is raised.

    Args:
        network: in evaluation mode, on a CPU; nothing of it learns.
        inputs: what it is traced with.
        path: the file.
        metadata: texts that the file says of itself.
        names: of the inputs and of the outputs.
        dynamic: input -> its free dimensions.
        translations: how operators of our own stand in the graph.

    Raises:
        InputError: if packages are missing, or the network cannot be exported.
    """
    check_onnx()
    network.requires_grad_(False)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            made = torch.onnx.export(
                network,
                inputs,
                None,
                dynamo=True,
                verbose=False,
                input_names=list(names[0]),
                output_names=list(names[1]),
                dynamic_shapes=dict(dynamic),
                opset_version=OPSET,
                custom_translation_table=dict(translations or {}),
            )
        except torch.onnx.OnnxExporterError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            expected = "a tower and a method that torch.onnx.export takes"
            raise InputError(f"no ONNX graph ({reason:.200})", "--onnx", expected) from error
    assert made is not None
    made.model.metadata_props.update(metadata)
    with replacing(path) as temporary:
        made.save(temporary, external_data=False)
        yield temporary


@contextlib.contextmanager
def any_number_of_images(trunk: Trunk) -> Iterator[None]:
    """Let a tower take any number of images: its own way to count them fixes the number."""
    if isinstance(trunk, OpenClipTrunk):
        vars(trunk)["embed"] = types.MethodType(_embed, trunk)
    try:
        yield
    finally:
        vars(trunk).pop("embed", None)


def _embed(trunk: OpenClipTrunk, images: Tensor) -> tuple[Tensor, Any]:
    """Do what ``OpenClipTrunk.embed`` does, for any number of images."""
    visual = trunk.visual
    x = visual.conv1(images)
    height, width = x.shape[-2:]
    x = x.flatten(2).transpose(1, 2)
    token = visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
    position = resized_position(visual.positional_embedding, visual.grid_size, (height, width))
    return visual.ln_pre(torch.cat([token, x], dim=1) + position.to(x.dtype)), None
