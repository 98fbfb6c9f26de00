"""``clclip embed-text``: the text embeddings of class names."""

from __future__ import annotations

import argparse
from pathlib import Path

from clclip.cli.arguments import from_json
from clclip.cli.command import argument, command


@command(
    "embed class names by the prompt ensemble",
    """--clip resources/clip/ID --names '["red circle"]' --out text.safetensors""",
    argument("--clip", type=Path, required=True, metavar="DIR"),
    argument("--names", required=True, help="class names as a JSON list"),
    argument(
        "--template",
        metavar="TEXT",
        help="one sentence with {} for the name, as classification reads it; default: the ensemble",
    ),
    argument(
        "--model",
        type=Path,
        default=None,
        metavar="DIR",
        help="a model folder: texts that it holds are taken over bit for bit",
    ),
    argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors"),
)
def run(options: argparse.Namespace) -> None:
    """Embed class names."""
    from clclip.core.machine import import_quickly

    names = from_json(options.names, "--names", list)
    import_quickly("clclip.clip.load")
    if options.template is not None:
        from clclip.classification.features.builder import embed_sentences

        return embed_sentences(options.clip, names, options.template, options.out)
    from clclip.clip.text import embed_text

    embed_text(options.clip, names, options.out)
    if options.model is not None:
        from clclip.model.change.texts import take_over_texts

        take_over_texts(options.model, options.out)
