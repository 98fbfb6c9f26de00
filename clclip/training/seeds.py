"""Random numbers without hidden state.

Every random draw comes from a generator that is seeded by what it is for: (experiment seed, task,
purpose, ...). So one task alone reproduces, a resumed run needs no stored generator state, and the
draws of an image do not depend on which other images are in its batch.
"""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*purpose: int | str) -> int:
    """Return a 63-bit seed that depends on every element of ``purpose`` and on their order."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in purpose)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*purpose: int | str) -> torch.Generator:
    """Return a CPU generator seeded by ``purpose``: ``generator(seed, task, "order", epoch)``."""
    return torch.Generator().manual_seed(derive_seed(*purpose))
