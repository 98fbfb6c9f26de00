"""Visual adapters, and an image tower cut where they act.

An adapter stands parallel to the MLP of a block (SECA, section 3.1)::

    h   = x + Attn(LN1(x))
    out = h + MLP(LN2(h)) + s * Up(Dropout(ReLU(Down(h))))

Down and Up have no bias, and Up starts at zero: a fresh adapter is exactly CLIP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.clip.trunk import OpenClipTrunk, trunk_of
from clclip.core.errors import InputError


class Adapter(nn.Module):
    """One bottleneck: (..., width) -> (..., width); zero while ``up`` is zero.

    Args:
        width: width of the residual stream.
        hidden: width of the bottleneck.
        scale: factor s on the output.
        generator: draws the initial ``down`` (Kaiming uniform, a = sqrt(5)).
    """

    def __init__(
        self, width: int, hidden: int, scale: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)  # Kaiming uniform with a = sqrt(5)
        self.down = nn.Parameter(
            torch.empty(hidden, width).uniform_(-bound, bound, generator=generator)
        )
        self.up = nn.Parameter(torch.zeros(width, hidden))
        self.scale = scale

    def forward(self, h: Tensor, dropout: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return s * Up(Dropout(ReLU(Down h))); ``dropout`` None means evaluation."""
        rows = h.reshape(
            -1, h.shape[-1]
        )  # (B * L, width): one large product rather than B small ones
        hidden = F.relu(F.linear(rows, self.down))
        out = F.linear(hidden if dropout is None else dropout(hidden), self.up)
        return self.scale * out.view(h.shape)


def adapter_stack(
    tower: VisualTower, hidden: int, scale: float, generator: torch.Generator | None = None
) -> nn.ModuleList:
    """Return one fresh adapter for each block of ``tower``."""
    return nn.ModuleList(Adapter(tower.width, hidden, scale, generator) for _ in tower.blocks)


def seeded_dropout(
    rate: float, generator: torch.Generator, images: range | None = None, total: int = 0
) -> Callable[[Tensor], Tensor]:
    """Return inverted dropout whose masks are drawn from ``generator`` (on the CPU).

    Args:
        rate: share of values that are dropped.
        generator: the generator.
        images: which images of a batch of ``total`` the tensors hold, with equally many rows
            each; None: the whole batch.
        total: images of the whole batch, whose masks are drawn whichever are at hand.
    """

    def drop(x: Tensor) -> Tensor:
        if rate == 0:
            return x
        each = 0 if images is None else len(x) // len(images)
        shape = x.shape if images is None else (total * each, *x.shape[1:])
        mask = torch.empty(shape).bernoulli_(1 - rate, generator=generator)
        mask = mask if images is None else mask[images.start * each : images.stop * each]
        return x * (mask.to(x.device) / (1 - rate))

    return drop


@dataclass
class Stem:
    """Tokens at the first adapter, which no adapter has touched yet: constant for an image.

    Attributes:
        h: (B, L, width) after the first attention.
        fed: (B, L, width) h + MLP(LN2(h)) of the first block.
        context: what the blocks need besides tokens (a rotary table), the same for all images.
    """

    h: Tensor
    fed: Tensor
    context: Any = None

    def __getitem__(self, rows: Any) -> Stem:
        """Return the stem of some images."""
        return Stem(self.h[rows], self.fed[rows], self.context)


class VisualTower:
    """The image tower of an open_clip model, cut at the places where SECA acts.

    Args:
        model: an open_clip model; a ViT of open_clip or a ViT / EVA trunk of timm.
        image_size: side in px that images will have (positions are interpolated); None: the tower's
            own.

    Raises:
        InputError: if the tower is not a sequence of transformer blocks, or the size is no multiple
            of its patch.
    """

    def __init__(self, model: nn.Module, image_size: int | None = None) -> None:
        self.visual: Any = model.visual  # of open_clip or timm, whose parts differ
        self.trunk = trunk_of(model.visual)
        self.blocks = list(self.trunk.blocks)
        if isinstance(self.trunk, OpenClipTrunk) and not _can_be_cut(self.visual):
            raise InputError(
                f"image tower with pooling {self.trunk.pooling!r}",
                "clip.model",
                "a tower that pools by class token, mean or one attention",
            )
        size = self.visual.image_size
        self.image_size = image_size or (size if isinstance(size, int) else size[0])
        if self.image_size % self.trunk.patch:
            raise InputError(
                f"image_size {self.image_size}",
                "training.image_size",
                f"a multiple of the patch size {self.trunk.patch}",
            )
        with torch.no_grad():
            device = next(model.parameters()).device
            probe = torch.zeros(1, 3, self.image_size, self.image_size, device=device)
            stem = self.stem(probe)
            pooled = self.pool(stem.fed)
            self.width = stem.h.shape[-1]
            self.pooled_width = pooled.shape[-1]
            self.embed_dim = self.project(pooled).shape[-1]

    def stem(self, images: Tensor) -> Stem:
        """Run normalised images (B, 3, H, W) to where the first adapter acts."""
        x, context = self.trunk.embed(images)
        h = x + self.trunk.attention(self.blocks[0], x, context)
        return Stem(h, h + self.trunk.mlp(self.blocks[0], h), context)

    def tokens(
        self,
        stem: Stem,
        adapters: Sequence[nn.Module] | None,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the last block's tokens (B, L, width); ``adapters`` None is plain CLIP."""
        h, x = stem.h, stem.fed
        for index, block in enumerate(self.blocks):
            if index:
                h = x + self.trunk.attention(block, x, stem.context)
                x = h + self.trunk.mlp(block, h)
            if adapters is not None:
                x = x + adapters[index](h, dropout)
        return x

    def pooled_after(self, stem: Stem, taps: Sequence[int]) -> list[Tensor]:
        """Return what ``pool`` gives (B, pooled width) after some blocks of plain CLIP.

        Args:
            stem: of the images.
            taps: numbers of blocks, from 1, ascending.
        """
        h, x = stem.h, stem.fed
        pooled = []
        for number, block in enumerate(self.blocks[: max(taps)], start=1):
            if number > 1:
                h = x + self.trunk.attention(block, x, stem.context)
                x = h + self.trunk.mlp(block, h)
            if number in taps:
                pooled.append(self.pool(x))
        return pooled

    def pool(self, tokens: Tensor) -> Tensor:
        """Return V (B, pooled width), the vector that `project` takes to the joint space.

        What is normalised afterwards - a class token, attention pooling of open_clip, some means -
        is taken before its LayerNorm (the paper's V); where the LayerNorm comes first (mean of
        normalised tokens, attention pooling of timm), V is what pooling gives.
        ``project(pool(tokens))`` is CLIP's own feature for every tower.
        """
        visual = self.visual
        if not isinstance(self.trunk, OpenClipTrunk):
            return visual.trunk.pool(visual.trunk.norm(tokens))
        if self.trunk.pooling == "attn":
            tokens = visual.attn_pool(tokens)
        if self._norm_last:
            return visual._global_pool(tokens)[0]
        return visual._global_pool(visual.ln_post(tokens))[0]

    def project(self, pooled: Tensor) -> Tensor:
        """Take V (..., pooled width) through CLIP's own norm and projection: (..., embed_dim)."""
        visual = self.visual
        if not isinstance(self.trunk, OpenClipTrunk):
            trunk = visual.trunk
            return visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(pooled))))
        if self._norm_last:
            pooled = visual.ln_post(pooled)
        return pooled if visual.proj is None else pooled @ visual.proj

    @property
    def _norm_last(self) -> bool:
        """Whether ln_post may act on the pooled vector: the first token is normalised alone."""
        return self.visual.pool_type == "tok" or self.visual.final_ln_after_pool

    def feature(
        self,
        stem: Stem,
        adapters: Sequence[nn.Module] | None,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return image features (B, embed_dim), not normalised."""
        return self.project(self.pool(self.tokens(stem, adapters, dropout)))


def _can_be_cut(visual: nn.Module) -> bool:
    """Return whether a ViT of open_clip pools as ``VisualTower.pool`` does.

    CoCa's attention pooling hands on its first vector; other towers have a second pooling.
    """
    if visual.attn_pool is None:
        return visual.pool_type in ("tok", "avg")
    return visual.attn_pool_contrastive is None and visual.pool_type == "tok"
