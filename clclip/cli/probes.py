"""Commands that measure a CLIP or a finished run, beside what the workflow asks for.

Every command imports what it needs when it is called, as those of ``commands.py`` do.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from clclip.core.errors import InputError
from clclip.core.files import check_writable, write_text


def open_vocabulary(options: argparse.Namespace) -> None:
    """Measure what is left of the open vocabulary after each task of a run."""
    from clclip.detection.tools.open_vocabulary import measure

    _measure(measure, options)


def feature_drift(options: argparse.Namespace) -> None:
    """Measure how far each task of a classification run has moved earlier features."""
    from clclip.classification.tools.feature_drift import measure

    _measure(measure, options)


def advise(options: argparse.Namespace) -> None:
    """Tell which classifier suits a folder of images or an experiment's."""
    from clclip.workflow.advise_data import of_experiment, of_folder

    place = options.place
    if options.seconds <= 0:
        raise InputError(f"got {options.seconds}", "--seconds", "a number above 0")
    if options.out is not None:
        check_writable(options.out)
    if place.is_dir():
        asked = of_folder(place, options.clip)
    elif place.is_file():
        asked = of_experiment(place, options.resources, options.clip)
    else:
        raise InputError("no such folder or file", place, "a folder of images or an experiment")
    from clclip.classification.tools.advise import advise as run
    from clclip.classification.tools.advise import as_text
    from clclip.clip.fetch import fetch_clip
    from clclip.clip.load import load_clip

    home = asked.clip
    if isinstance(home, dict):
        home = options.resources / "clip" / asked.clip["id"]
        if not (home / "clip.json").is_file():
            fetch_clip(asked.clip, home)
    clip = load_clip(home)
    found = run(clip, asked.paths, asked.labels, asked.words, asked.size, options.seconds)
    if options.out is not None:
        write_text(options.out, json.dumps(found.values(), indent=1) + "\n")
    print(as_text(found))


def probe_dense(options: argparse.Namespace) -> None:
    """Measure the dense modes of a CLIP."""
    from clclip.clip.probe import probe_dense as run

    _probe(run, options)


def zero_shot(options: argparse.Namespace) -> None:
    """Measure the zero-shot class of ground-truth boxes."""
    from clclip.clip.probe import zero_shot as run

    _probe(run, options)


def _measure(measure: Callable[..., str], options: argparse.Namespace) -> None:
    """Measure the tasks of a run and print the table."""
    if options.out is not None:
        check_writable(options.out)
    print(measure(options.run, options.resources, options.out))


def _probe(run: Callable[..., dict[str, Any]], options: argparse.Namespace) -> None:
    """Run a probe, on the embedded CLIP and world unless told otherwise, and print its result."""
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
    result = run(data, clip, **({"images": options.images} if options.images is not None else {}))
    text = json.dumps(result, indent=1)
    if options.out is not None:
        write_text(options.out, text + "\n")
    print(text)
