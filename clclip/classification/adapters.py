"""Visual adapters, and a view of any open_clip image tower as blocks that they can be added to.

An adapter stands parallel to the MLP of a block (SECA, section 3.1)::

    h   = x + Attn(LN1(x))
    out = h + MLP(LN2(h)) + s * Up(Dropout(ReLU(Down(h))))

Down and Up have no bias, and Up starts at zero: a fresh adapter is exactly CLIP. The towers of open_clip write their
blocks in several ways; `VisualTower` splits each into ``attend`` (x -> h) and ``feed`` (h -> h + MLP(LN2(h))).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.errors import InputError


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


def seeded_dropout(rate: float, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """Return inverted dropout whose masks come from ``generator`` (a CPU generator), not from global state."""

    def drop(x: Tensor) -> Tensor:
        if rate == 0:
            return x
        mask = torch.empty(x.shape).bernoulli_(1 - rate, generator=generator)
        return x * (mask.to(x.device) / (1 - rate))

    return drop


@dataclass
class Stem:
    """Tokens at the first adapter, which no adapter has touched yet: constant for an image.

    Attributes:
        h: (B, L, width) after the first attention.
        fed: (B, L, width) h + MLP(LN2(h)) of the first block.
    """

    h: Tensor
    fed: Tensor

    def __getitem__(self, rows: Any) -> Stem:
        """Return the stem of some images."""
        return Stem(self.h[rows], self.fed[rows])

    def to(self, device: torch.device) -> Stem:
        """Return the stem on ``device``."""
        return Stem(self.h.to(device), self.fed.to(device))


class VisualTower:
    """The image tower of an open_clip model, cut at the places where SECA acts.

    Args:
        model: an open_clip model; a ViT of open_clip or a ViT / EVA trunk of timm.
        image_size: side in px that images will have; positions are interpolated if it is not the tower's own.

    Raises:
        InputError: if the tower is not a sequence of transformer blocks.
    """

    def __init__(self, model: nn.Module, image_size: int | None = None) -> None:
        visual = model.visual
        self.visual = visual
        self.rope: Tensor | None = None
        if hasattr(visual, "transformer") and hasattr(visual.transformer, "resblocks"):
            self.timm = False
            self.blocks = list(visual.transformer.resblocks)
            self.width = visual.conv1.out_channels
            native, patch = visual.image_size[0], visual.patch_size[0]
            if visual.attn_pool is not None:
                raise InputError(
                    "image tower with attentional pooling of open_clip",
                    "clip.model",
                    "a tower that pools by CLS token or mean",
                )
        elif hasattr(visual, "trunk") and hasattr(visual.trunk, "blocks"):
            self.timm = True
            self.blocks = list(visual.trunk.blocks)
            self.width = visual.trunk.embed_dim
            native, patch = visual.image_size[0], visual.trunk.patch_embed.patch_size[0]
            if not hasattr(self.blocks[0], "norm2") or hasattr(self.blocks[0], "norm3"):
                raise InputError(
                    f"blocks of type {type(self.blocks[0]).__name__}",
                    "clip.model",
                    "a tower of pre-norm transformer blocks",
                )
        else:
            raise InputError(
                f"image tower {type(visual).__name__}",
                "clip.model",
                "a vision transformer (its blocks take adapters)",
            )
        self.image_size = image_size or native
        if self.image_size % patch:
            raise InputError(
                f"image_size {self.image_size}",
                "training.image_size",
                f"a multiple of the patch size {patch}",
            )
        if self.image_size != native:
            self._resize()

    def _resize(self) -> None:
        """Interpolate the positional embedding to the grid of ``image_size``."""
        if self.timm:
            self.visual.set_input_size(self.image_size)
            return
        patch = self.visual.patch_size[0]
        old = self.visual.positional_embedding.data
        side, new = math.isqrt(old.shape[0] - 1), self.image_size // patch
        grid = old[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, width, side, side)
        grid = F.interpolate(
            grid, size=(new, new), mode="bicubic", antialias=True, align_corners=False
        )
        spatial = grid.permute(0, 2, 3, 1).reshape(new * new, -1)
        resized = torch.cat([old[:1], spatial])
        self.visual.positional_embedding = nn.Parameter(resized, requires_grad=False)
        self.visual.grid_size, self.visual.image_size = (new, new), (self.image_size,) * 2

    def embed(self, images: Tensor) -> Tensor:
        """Return the tokens (B, L, width) that enter block 1, for normalised images (B, 3, H, W)."""
        if not self.timm:
            return self.visual._embeds(images)
        trunk = self.visual.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(images))
        if isinstance(tokens, tuple):  # EVA returns its rotary embedding beside the tokens
            tokens, self.rope = tokens
        return trunk.norm_pre(tokens)

    def attend(self, index: int, x: Tensor) -> Tensor:
        """Return h = x + Attn(LN1(x)) of block ``index``: (B, L, width)."""
        block = self.blocks[index]
        if self.timm:
            rope = {} if self.rope is None else {"rope": self._rope(index)}
            attended = block.attn(block.norm1(x), **rope)
            if getattr(block, "gamma_1", None) is not None:
                attended = block.gamma_1 * attended
            return x + getattr(block, "ls1", nn.Identity())(attended)
        if hasattr(block, "ln_attn"):
            return x + block.ls_1(block.ln_attn(block.attn(block.ln_1(x))))
        return x + block.ls_1(block.attention(q_x=block.ln_1(x)))

    def _rope(self, index: int) -> Tensor:
        """Return the rotary embedding of a block; "mixed" trunks have one per block."""
        return self.rope[index] if getattr(self.visual.trunk, "rope_mixed", False) else self.rope

    def feed(self, index: int, h: Tensor) -> Tensor:
        """Return h + MLP(LN2(h)) of block ``index``: (B, L, width)."""
        block = self.blocks[index]
        if not self.timm:
            return h + block.ls_2(block.mlp(block.ln_2(h)))
        fed = block.mlp(block.norm2(h))
        if getattr(block, "gamma_2", None) is not None:
            fed = block.gamma_2 * fed
        return h + getattr(block, "ls2", nn.Identity())(fed)

    def stem(self, images: Tensor) -> Stem:
        """Run everything before the first adapter acts; shared by the student and all teachers."""
        h = self.attend(0, self.embed(images))
        return Stem(h, self.feed(0, h))

    def tokens(
        self,
        stem: Stem,
        adapters: Sequence[nn.Module] | None,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return the last block's tokens (B, L, width); ``adapters`` None is plain CLIP."""
        h, x = stem.h, stem.fed
        for index in range(len(self.blocks)):
            if index:
                h = self.attend(index, x)
                x = self.feed(index, h)
            if adapters is not None:
                x = x + adapters[index](h, dropout)
        return x

    def pool(self, tokens: Tensor) -> Tensor:
        """Return V (B, pooled width), the vector that `project` takes to the joint space.

        A CLS token or a mean that is normalised afterwards is taken before its LayerNorm (the paper's V); where the
        LayerNorm comes first (mean of normalised tokens) or pooling is attention, V is what pooling gives.
        ``project(pool(tokens))`` is CLIP's own feature for every tower.
        """
        if self.timm:
            return self.visual.trunk.pool(self.visual.trunk.norm(tokens))
        if self.visual.pool_type == "tok":
            return tokens[:, 0]
        if self.visual.final_ln_after_pool:
            return tokens[:, 1:].mean(dim=1)
        return self.visual.ln_post(tokens)[:, 1:].mean(dim=1)

    def project(self, pooled: Tensor) -> Tensor:
        """Take V (..., pooled width) through CLIP's own norm and projection: (..., embed_dim)."""
        if self.timm:
            trunk = self.visual.trunk
            return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(pooled))))
        visual = self.visual
        if visual.pool_type == "tok" or visual.final_ln_after_pool:
            pooled = visual.ln_post(pooled)
        return pooled if visual.proj is None else pooled @ visual.proj

    def feature(
        self,
        stem: Stem,
        adapters: Sequence[nn.Module] | None,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Return image features (B, embed_dim), not normalised."""
        return self.project(self.pool(self.tokens(stem, adapters, dropout)))
