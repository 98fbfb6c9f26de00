"""``clclip describe``: what an experiment would run and need."""

from __future__ import annotations

import argparse
import json

from clclip.cli.command import OneOf, argument, command


@command(
    "what an experiment would run and need",
    "shapes_10_10_clclip",
    argument("experiment", help="STREAM_METHOD[_VARIANT...] or experiment file"),
    OneOf(
        (
            argument("--json", action="store_true", help="as JSON"),
            argument("--yaml", action="store_true", help="the one file that says all of it"),
        )
    ),
    argument("--data-root", default=None, metavar="DIR"),
    argument("--seeds", default=None, help="e.g. 0,1,2"),
    argument(
        "--check-images",
        action="store_true",
        help="open every image, as `clclip prepare` does, and tell what is wrong or odd",
    ),
)
def run(options: argparse.Namespace) -> None:
    """Tell what an experiment would run and need."""
    if options.yaml:
        from clclip.config.listing import resolved_yaml

        return print(resolved_yaml(options.experiment, options.data_root), end="")
    from clclip.workflow.describe import describe, text

    chosen = (options.data_root, options.seeds, options.check_images)
    described = describe(options.experiment, *chosen)
    print(json.dumps(described, indent=1) if options.json else text(described))
