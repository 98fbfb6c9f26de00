"""``clclip pretrain-clip``: train the embedded CLIP again."""

from __future__ import annotations

import argparse

from clclip.cli.arguments import OUT_FOLDER
from clclip.cli.command import argument, command
from clclip.core.files import check_writable


@command(
    "make the embedded CLIP again from captions",
    "--seed 1 --out resources/pretrained/seed1",
    argument("--name", default="embedded", help="which embedded CLIP"),
    argument("--seed", type=int, default=0),
    argument("--steps", type=int, default=None, help="default: the shipped model's"),
    OUT_FOLDER,
)
def run(options: argparse.Namespace) -> None:
    """Train the embedded CLIP."""
    check_writable(options.out, folder=True)
    from clclip.clip.embedded.pretrain import pretrain_clip

    given = {} if options.steps is None else {"steps": options.steps}
    pretrain_clip(options.out, seed=options.seed, name=options.name, **given)
