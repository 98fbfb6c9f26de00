"""What the commands that measure a CLIP or a finished run share."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

from clclip.cli.arguments import check_clip
from clclip.core.errors import InputError
from clclip.core.files import check_writable, write_text


def measure_run(module: str, kind: str, options: argparse.Namespace) -> None:
    """Measure the tasks of a run and print the table.

    Args:
        module: the tool, imported once the run is known to be one: it needs torch.
        kind: "detection" or "classification", which the run must be of.
        options: of the command line.

    Raises:
        InputError: if it is no such run of two trained tasks.
    """
    from clclip.core.machine import import_quickly
    from clclip.core.task import read_task

    run: Path = options.run
    if options.out is not None:
        check_writable(options.out)
    if not run.is_dir():
        raise InputError("no such folder", run, "results/EXPERIMENT/seedN of a run")
    trained = len(list(run.glob("task*/weights.safetensors")))
    if trained < 2:
        raise InputError(f"{trained} trained tasks", run, "a run of at least two tasks")
    plan = run / f"task{trained}" / "task.json"
    if (actual := read_task(plan)["kind"]) != kind:
        raise InputError(f"kind {actual!r}", plan, f"a run of {kind}")
    import_quickly(module)
    print(import_module(module).measure(run, options.resources, options.out))


def probe(function: str, options: argparse.Namespace) -> None:
    """Measure a CLIP (by default the embedded one, on the embedded world) and print its result.

    Args:
        function: of ``clclip.clip.probe``, imported when what is given is there: it needs torch.
        options: of the command line.

    Raises:
        InputError: if a folder is no CLIP or no data set, or an option is wrong.
    """
    from clclip.clip.fetch import fetch_clip
    from clclip.clip.own.settle import clip_id
    from clclip.core.machine import import_quickly
    from clclip.data.shapes.worlds import generate, world_spec

    clip, data = options.clip, options.data
    if options.images is not None and options.images < 1:
        raise InputError(f"got {options.images}", "--images", "a number from 1")
    if options.out is not None:
        check_writable(options.out)
    _check_given(clip, data)
    if clip is None:
        clip = options.resources / "clip" / clip_id(None)
        if not (clip / "clip.json").exists():
            fetch_clip(None, clip)
    if data is None:
        data = options.resources / "data" / world_spec("shapes20")["data_id"]
        if not (data / "index.json").exists():
            generate("shapes20", data)
    import_quickly("clclip.clip.probe")
    result = getattr(import_module("clclip.clip.probe"), function)(
        data, clip, **({"images": options.images} if options.images is not None else {})
    )
    text = json.dumps(result, indent=1)
    if options.out is not None:
        write_text(options.out, text + "\n")
    print(text)


def _check_given(clip: Path | None, data: Path | None) -> None:
    """Refuse folders that are no CLIP and no data set, before others are made and torch imported.

    Raises:
        InputError: if one is not what it should be.
    """
    from clclip.data.index import read_index

    if clip is not None:
        check_clip(clip)
    if data is not None:
        if not (data / "index.json").is_file():
            what = "no index.json" if data.is_dir() else "no such folder"
            raise InputError(what, data, "an indexed data set, resources/data/ID of a run")
        read_index(data)
