"""Dense tokens aligned with text: which modes a tower has, and what each does in the last block.

With x the tokens entering the last block, a_i the attention branch when token i attends to itself
alone (so its softmax is 1 and only the value path is left), MLP the block's second branch and P the
tower's head:

- ``tokens``    f_i = P(ordinary output of the block), for towers pooled by average
- ``maskclip``  f_i = P(a_i)                                       (Zhou et al. 2022)
- ``clipself``  f_i = P(y_i + MLP(y_i)), y_i = x_i + a_i           (Wu et al. 2024)
- ``catseg``    f_i = P(y_i + MLP(y_i)), y_i = x_CLS + a_i         (Cho et al. 2024)
- ``attnpool``  f_i = attention pooling over token i of the ordinary output alone (SigLIP)
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from clclip.clip.trunk import Trunk
from clclip.core.errors import InputError

MODES = ("maskclip", "clipself", "catseg", "tokens", "attnpool")


def dense_modes(trunk: Trunk) -> tuple[str, ...]:
    """Return the modes that make sense on ``trunk``."""
    if trunk.pooling == "attn":
        return ("maskclip", "clipself", "attnpool")
    return (
        ("maskclip", "clipself", "catseg", "tokens")
        if trunk.has_cls
        else ("maskclip", "clipself", "tokens")
    )


def check_mode(trunk: Trunk, mode: str) -> None:
    """Refuse a mode that the tower does not have.

    Raises:
        InputError: naming the modes it does have.
    """
    modes = dense_modes(trunk)
    if mode not in modes:
        pooled = {"attn": "attention", "avg": "average", "tok": "class token"}.get(
            trunk.pooling, trunk.pooling
        )
        expected = f"one of {', '.join(modes)} for a tower pooled by {pooled}"
        raise InputError(f"dense mode {mode!r}", "switches.dense", expected)


def dense_tokens(trunk: Trunk, before: Tensor, after: Tensor, mode: str) -> Tensor:
    """Return unit-norm dense tokens.

    Args:
        trunk: the tower.
        before: (B, prefix + n, C), what enters the last block.
        after: (B, prefix + n, C), what leaves it in the ordinary way.
        mode: one of ``dense_modes(trunk)``.

    Returns:
        (B, n, d), unit norm over d.
    """
    block, start = trunk.blocks[-1], trunk.prefix
    if mode in ("tokens", "attnpool"):
        x = after
    else:
        a = alone(trunk, block, before)
        if mode == "maskclip":
            x = a
        else:
            x = a + (before[:, :1] if mode == "catseg" else before)
            x = x + trunk.mlp(block, x)
    return functional.normalize(trunk.head(x[:, start:]), dim=-1)


def alone(trunk: Trunk, block: nn.Module, x: Tensor) -> Tensor:
    """Return the attention branch (B, L, C) of a block when every token attends to itself alone.

    Every token is a sequence of its own: no L x L mask, so memory grows with the tokens and not
    with their square. Positions play no part, because a softmax over one token is 1.
    """
    return trunk.attention(block, x.flatten(0, 1).unsqueeze(1), None).view_as(x)
