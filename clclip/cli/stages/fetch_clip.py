"""``clclip fetch-clip``: put a CLIP in place."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import OUT_FOLDER, from_json
from clclip.cli.command import argument, command


@command(
    "put a CLIP in place: shipped, from a file or downloaded",
    """--clip '{"model":"ViT-B-16","tag":"openai"}' --out resources/clip/mine""",
    argument("--clip", required=True, help="the CLIP as JSON: the keys of `clip:`"),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Put the CLIP in place."""
    from clclip.clip.fetch import fetch_clip
    from clclip.clip.own.settle import resolve_clip
    from clclip.config.clip import ClipConfig
    from clclip.core.machine import import_quickly
    from clclip.core.models import parse
    from clclip.workflow.clip_checks import check_own

    clip = from_json(options.clip, "--clip", dict)
    if (
        not {"id", "config_text", "folder"} & clip.keys()
    ):  # typed by a person, not settled by a plan
        clip = dict(resolve_clip(parse(ClipConfig, clip, "--clip").given()))
        check_own(clip)
    import_quickly("open_clip")
    fetch_clip(clip, options.out)
