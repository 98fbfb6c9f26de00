"""Two families of vision transformers, open_clip's and timm's, behind one small interface.

A trunk says how images become tokens, what the two branches of a block are, and how tokens reach
the space of the text. Everything that differs between CLIPs lives here; ``dense.py`` and
``tower.py`` are the same for all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from clclip.core.errors import InputError


class OpenClipTrunk:
    """open_clip's VisionTransformer: OpenAI, LAION, DataComp and the embedded CLIP."""

    prefix = 1  # the class token always comes first

    def __init__(self, visual: VisionTransformer) -> None:
        self.visual = visual
        self.patch: int = visual.patch_size[0]
        self.blocks: Sequence[nn.Module] = visual.transformer.resblocks
        self.pooling = "attn" if visual.attn_pool is not None else visual.pool_type
        self.has_cls = True

    def embed(self, images: Tensor) -> tuple[Tensor, Any]:
        """Return the tokens (B, 1 + h*w, C) that enter the first block, and no context."""
        visual = self.visual
        x = visual.conv1(images)  # (B, C, h, w)
        height, width = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)  # (B, h*w, C)
        token = visual.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        position = resized_position(visual.positional_embedding, visual.grid_size, (height, width))
        x = torch.cat([token, x], dim=1) + position.to(x.dtype)
        return visual.ln_pre(x), None

    def run(self, block: nn.Module, x: Tensor, context: Any) -> Tensor:
        """Run one block as it is."""
        return block(x)

    def attention(self, block: nn.Module, x: Tensor, context: Any) -> Tensor:
        """Return the attention branch of ``block``, without the residual."""
        if isinstance(block, ResidualAttentionBlock):
            return block.ls_1(block.attention(block.ln_1(x)))
        return block.ls_1(block.ln_attn(block.attn(block.ln_1(x))))

    def mlp(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return the MLP branch of ``block``, without the residual."""
        return block.ls_2(block.mlp(block.ln_2(x)))

    def head(self, x: Tensor) -> Tensor:
        """Project every token (B, n, C) on its own into the space of the text: (B, n, d)."""
        visual = self.visual
        if visual.attn_pool is not None:
            batch, count, channels = x.shape
            pooled = visual.attn_pool(x.reshape(batch * count, 1, channels))[:, 0]
            x = pooled.reshape(batch, count, -1)
        x = visual.ln_post(x)
        return x if visual.proj is None else x @ visual.proj

    def pool(self, x: Tensor) -> Tensor:
        """Pool all tokens (B, 1 + n, C) into the image embedding (B, d)."""
        pooled, _ = self.visual._pool(x)
        return pooled if self.visual.proj is None else pooled @ self.visual.proj


class TimmTrunk:
    """A timm transformer behind open_clip: EVA02 (rotary positions), SigLIP (attention pooling)."""

    def __init__(self, visual: TimmModel) -> None:
        trunk = visual.trunk
        self.visual, self.trunk = visual, trunk
        self.patch = int(trunk.patch_embed.feat_ratio())  # of a hybrid, its whole stem's
        self.blocks: Sequence[nn.Module] = trunk.blocks
        self.prefix = int(trunk.num_prefix_tokens)
        self.has_cls = trunk.cls_token is not None
        self.attn_pool = getattr(trunk, "attn_pool", None)
        self.pooling = (
            "attn" if self.attn_pool is not None else {"token": "tok"}.get(trunk.global_pool, "avg")
        )
        _accept_any_size(trunk)

    def embed(self, images: Tensor) -> tuple[Tensor, Any]:
        """Return the tokens (B, prefix + h*w, C) and the rotary table, or None."""
        x = self.trunk.patch_embed(images)  # (B, h, w, C)
        with _rotary_table_of(getattr(self.trunk, "rope", None), tuple(x.shape[1:3])):
            x = self.trunk._pos_embed(x)
        x, rope = x if isinstance(x, tuple) else (x, None)
        return self.trunk.norm_pre(x), rope

    def run(self, block: nn.Module, x: Tensor, context: Any) -> Tensor:
        """Run one block as it is."""
        return block(x) if context is None else block(x, rope=context)

    def attention(self, block: nn.Module, x: Tensor, context: Any) -> Tensor:
        """Return the attention branch of ``block``, without the residual."""
        extra = {} if context is None else {"rope": context}
        branch = block.attn(block.norm1(x), **extra)
        if hasattr(block, "ls1"):
            return block.ls1(branch)
        return branch if block.gamma_1 is None else block.gamma_1 * branch

    def mlp(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return the MLP branch of ``block``, without the residual."""
        branch = block.mlp(block.norm2(x))
        if hasattr(block, "ls2"):
            return block.ls2(branch)
        return branch if block.gamma_2 is None else block.gamma_2 * branch

    def head(self, x: Tensor) -> Tensor:
        """Project every token (B, n, C) on its own into the space of the text: (B, n, d)."""
        x = self.trunk.norm(x)
        if self.attn_pool is not None:
            batch, count, channels = x.shape
            # a probe that attends to one token alone returns that token's value path
            x = self.attn_pool(x.reshape(batch * count, 1, channels)).reshape(batch, count, -1)
        return self.visual.head(self.trunk.head(self.trunk.fc_norm(x)))

    def pool(self, x: Tensor) -> Tensor:
        """Pool all tokens (B, prefix + n, C) into the image embedding (B, d)."""
        return self.visual.head(self.trunk.forward_head(self.trunk.norm(x)))


Trunk = OpenClipTrunk | TimmTrunk


def trunk_of(visual: nn.Module, name: object = "clip.model") -> Trunk:
    """Return the trunk behind a CLIP's image tower.

    Raises:
        InputError: if the tower has no patch tokens (a ResNet, say) or blocks of an unknown kind.
    """
    expected = "a vision transformer of open_clip or timm, such as ViT-B-16"
    if isinstance(visual, VisionTransformer):
        return OpenClipTrunk(visual)
    if isinstance(visual, TimmModel):
        trunk = visual.trunk
        blocks = getattr(trunk, "blocks", None)
        parts = ("norm1", "attn", "norm2", "mlp")
        known = isinstance(blocks, nn.ModuleList | nn.Sequential) and all(
            hasattr(blocks[-1], p) for p in parts
        )
        if known and hasattr(trunk, "_pos_embed") and hasattr(trunk, "fc_norm"):
            return TimmTrunk(visual)
        raise InputError(f"image tower {type(trunk).__name__} has no patch tokens", name, expected)
    raise InputError(f"image tower {type(visual).__name__} has no patch tokens", name, expected)


def resized_position(position: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resize positions (1 + H*W, C) from grid ``old`` to ``new``, bicubic; the class row stays."""
    if tuple(old) == tuple(new):
        return position
    grid = position[1:].reshape(1, *old, -1).permute(0, 3, 1, 2).float()  # (1, C, H, W)
    grid = functional.interpolate(
        grid, size=new, mode="bicubic", align_corners=False, antialias=True
    )
    grid = grid.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1)
    return torch.cat([position[:1], grid.to(position.dtype)])


@contextlib.contextmanager
def _rotary_table_of(rope: nn.Module | None, grid: tuple[int, int]) -> Iterator[None]:
    """Rebuild a cached rotary table for ``grid``; put the old one back for open_clip's use."""
    old = getattr(rope, "feat_shape", None)
    if old is None or tuple(old) == grid:
        yield
        return
    rope.update_feat_shape(list(grid))  # type: ignore[union-attr]  # it has a shape
    try:
        yield
    finally:
        rope.update_feat_shape(old)  # type: ignore[union-attr]  # it has a shape


def _accept_any_size(trunk: nn.Module) -> None:
    """Switch on timm's own resizing of positions, which open_clip's configs leave off."""
    from timm.layers import Format

    trunk.dynamic_img_size = True
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC
