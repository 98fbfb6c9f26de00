"""The frozen image tower: block outputs and dense tokens of images of any aspect ratio."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clclip.clip.dense import check_mode, dense_modes, dense_tokens
from clclip.clip.load import LoadedClip
from clclip.clip.trunk import trunk_of
from clclip.core.errors import InputError


class TowerFeatures(NamedTuple):
    """What a frozen tower says about a batch of images."""

    taps: tuple[Tensor, ...]  # block outputs, each (B, C, h, w)
    dense: Tensor  # (B, d, h, w), unit norm over d, aligned with text


class FrozenTower(nn.Module):
    """A CLIP's image tower that never trains.

    Args:
        loaded: a CLIP from ``load_clip``.
        dense: mode of the dense tokens, see ``dense.py``.
        taps: 0-based blocks whose ordinary outputs are returned, in this order; negative counts
            from the end.

    Raises:
        InputError: if the tower has no such mode or no such block.
    """

    def __init__(self, loaded: LoadedClip, dense: str, taps: Sequence[int] = ()) -> None:
        super().__init__()
        self.visual = loaded.model.visual.requires_grad_(False)
        self.trunk = trunk_of(self.visual, loaded.name)
        check_mode(self.trunk, dense)
        depth = len(self.trunk.blocks)
        for tap in taps:
            if not -depth <= tap < depth:
                raise InputError(f"tap {tap}", "features.taps", f"0 to {depth - 1} for this tower")
        self.dense, self.taps = dense, tuple(tap % depth for tap in taps)
        self.patch, self.embed_dim = self.trunk.patch, loaded.embed_dim
        self.eval()

    @property
    def modes(self) -> tuple[str, ...]:
        """The dense modes of this tower."""
        return dense_modes(self.trunk)

    def train(self, mode: bool = True) -> FrozenTower:
        """Stay in evaluation mode whatever is asked: frozen means frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> TowerFeatures:
        """Return taps and dense tokens.

        Args:
            images: (B, 3, H, W), normalised with the tower's statistics; H and W multiples of the
                patch.

        Raises:
            ValueError: if the size is no multiple of the patch.
        """
        return self._features(images, (self.dense,))[0]

    def with_gradient(self, images: Tensor) -> TowerFeatures:
        """Return what ``forward`` returns, with a gradient to the images (for inversion)."""
        return self._features(images, (self.dense,))[0]

    @torch.no_grad()
    def all_modes(self, images: Tensor) -> dict[str, TowerFeatures]:
        """Return the features under every mode, from one pass (for ``probe-dense``)."""
        return dict(zip(self.modes, self._features(images, self.modes), strict=True))

    @torch.no_grad()
    def image_embedding(self, images: Tensor) -> Tensor:
        """Return what open_clip's ``encode_image`` returns, (B, d), for images of any size."""
        x, context = self.trunk.embed(images)
        for block in self.trunk.blocks:
            x = self.trunk.run(block, x, context)
        return self.trunk.pool(x)

    def _features(self, images: Tensor, modes: Sequence[str]) -> list[TowerFeatures]:
        height, width = images.shape[2:]
        if height % self.patch or width % self.patch:
            size = f"{height} x {width}"
            raise ValueError(f"got images of {size} pixels; expected multiples of {self.patch}")
        grid = height // self.patch, width // self.patch
        x, context = self.trunk.embed(images)
        before, maps = x, {}
        for index, block in enumerate(self.trunk.blocks):
            before, x = x, self.trunk.run(block, x, context)
            if index in self.taps:
                maps[index] = _as_map(x[:, self.trunk.prefix :], grid)
        taps = tuple(maps[tap] for tap in self.taps)
        dense = (dense_tokens(self.trunk, before, x, mode) for mode in modes)
        return [TowerFeatures(taps, _as_map(tokens, grid)) for tokens in dense]


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Turn tokens (B, h*w, C) into a contiguous map (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid).contiguous()  # refuses another token count
