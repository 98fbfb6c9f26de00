"""The small CLIP that ships with the package: an ordinary open_clip model with a short vocabulary.

Its architecture is ``embedded.json``, registered under the name ``embedded``; its weights are
``weights/embedded.safetensors``, made again by ``clclip pretrain-clip``.
"""

from __future__ import annotations

import gzip
import tempfile
from functools import cache
from pathlib import Path

import open_clip
from open_clip.tokenizer import SimpleTokenizer, default_bpe

WEIGHTS = Path(__file__).parent / "weights"
MERGES = 1000  # of 48,894: the full token table would be 90 % of the weights
# Pixel statistics of CLIP's own training set, kept so that every tower is fed the same way.
MEAN, STD = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


@cache
def register() -> None:
    """Make the embedded architectures known to ``open_clip.create_model``."""
    for path in sorted(Path(__file__).parent.glob("embedded*.json")):
        open_clip.add_model_config(path)


@cache
def tokenizer() -> SimpleTokenizer:
    """Return CLIP's tokenizer cut to its first ``MERGES`` merges; it still encodes any word."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as table:
        lines = [next(table) for _ in range(MERGES + 1)]  # the first line is a version comment
    with tempfile.NamedTemporaryFile(suffix=".gz") as short:
        short.write(gzip.compress("".join(lines).rstrip("\n").encode()))
        short.flush()
        return SimpleTokenizer(bpe_path=short.name, context_length=32)
