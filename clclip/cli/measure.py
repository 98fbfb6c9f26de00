"""What the commands that measure a CLIP or a finished run share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import check_writable, write_text


def measure_run(measure: Callable[..., str], options: argparse.Namespace) -> None:
    """Measure the tasks of a run and print the table."""
    if options.out is not None:
        check_writable(options.out)
    print(measure(options.run, options.resources, options.out))


def probe(measure: Callable[..., dict[str, Any]], options: argparse.Namespace) -> None:
    """Measure a CLIP (by default the embedded one, on the embedded world) and print its result."""
    from clclip.clip.fetch import fetch_clip
    from clclip.clip.own.settle import clip_id
    from clclip.data.shapes.worlds import generate, world_spec

    clip, data = options.clip, options.data
    if options.images is not None and options.images < 1:
        raise InputError(f"got {options.images}", "--images", "a number from 1")
    if options.out is not None:
        check_writable(options.out)
    if clip is None:
        clip = options.resources / "clip" / clip_id(None)
        if not (clip / "clip.json").exists():
            fetch_clip(None, clip)
    if data is None:
        data = options.resources / "data" / world_spec("shapes20")["data_id"]
        if not (data / "index.json").exists():
            generate("shapes20", data)
    result = measure(
        data, clip, **({"images": options.images} if options.images is not None else {})
    )
    text = json.dumps(result, indent=1)
    if options.out is not None:
        write_text(options.out, text + "\n")
    print(text)
