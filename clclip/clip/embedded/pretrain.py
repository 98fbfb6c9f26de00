"""Pre-training of the small CLIP from captions alone (``clclip pretrain-clip``).

Tokens of a mosaic are averaged per tile and contrasted with the tiles' captions, in both
directions, as CLIP does with images. Averaging per tile instead of per image is what aligns the
dense tokens with text.
"""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from clclip.clip.embedded.model import MEAN, STD, register, tokenizer
from clclip.clip.embedded.mosaic import BACKGROUND, TOKENS, Mosaics
from clclip.clip.ids import EMBEDDED
from clclip.clip.load import quiet
from clclip.clip.prompts import BACKGROUND_PROMPTS, TEMPLATES
from clclip.clip.trunk import OpenClipTrunk
from clclip.core.errors import InputError
from clclip.core.files import replacing
from clclip.data.shapes.objects import class_names
from clclip.data.shapes.random import Draws

logger = logging.getLogger(__name__)

STEPS = 1500
BATCH = 16
LEARNING_RATE = 1e-3
WINDOWS = ((0.45, 4), (0.75, 8), (1.0, TOKENS))  # (until this share of the steps, side in tokens)
WARM_UP = 100
MAX_SCALE = math.log(50.0)


def normalised(images: Tensor) -> Tensor:
    """Turn uint8 (B, H, W, 3) into the float (B, 3, H, W) that the tower takes."""
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    return ((images.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def window_tokens(trunk: OpenClipTrunk, images: Tensor, window: int) -> Tensor:
    """Run the tower within windows: (B * windows, 1 + window^2, C), a class token for each.

    Attention stays within windows of ``window`` x ``window`` tokens, whole images in miniature. It
    costs less, and the appearance of objects is learned several times faster before attention has
    to find it in a crowd.
    """
    x, _ = trunk.embed(images)  # (B, 1 + 256, C)
    token, x = x[:, :1], x[:, 1:]
    count, across = (TOKENS // window) ** 2, TOKENS // window
    x = x.reshape(len(x), across, window, across, window, -1).transpose(2, 3)
    x = x.reshape(-1, window * window, x.shape[-1])  # (B * windows, window^2, C)
    x = torch.cat([token.repeat_interleave(count, dim=0), x], dim=1)
    for block in trunk.blocks:
        x = block(x)
    return x


def token_embeddings(trunk: OpenClipTrunk, images: Tensor, window: int = TOKENS) -> Tensor:
    """Return the projected tokens (B, 256, d) whose mean is the image embedding."""
    across = TOKENS // window
    x = trunk.head(window_tokens(trunk, images, window)[:, 1:])
    x = x.reshape(len(images), across, across, window, window, -1)
    return x.transpose(2, 3).reshape(len(images), TOKENS * TOKENS, -1)


def tile_embeddings(
    trunk: OpenClipTrunk, images: Tensor, tiles: Tensor, count: int, window: int
) -> Tensor:
    """Return one embedding per tile, (T, d), not normalised.

    A tower pooled by average gives the mean of the tile's tokens; the others pool each window,
    which then must be one tile.
    """
    if trunk.pooling != "avg":
        return trunk.pool(window_tokens(trunk, images, window)).float()
    tokens = token_embeddings(trunk, images, window).float().flatten(0, 1)
    # a sum has the direction of the mean
    return torch.zeros(count, tokens.shape[-1]).index_add_(0, tiles.flatten(), tokens)


def window_of(step: int, steps: int) -> int:
    """Return the attention window of a step: tiles first, then quarters, then whole images."""
    progress = step / steps
    return next(window for end, window in WINDOWS if progress < end)


def captions_of(step_draws: Draws, classes: list[int]) -> list[str]:
    """Return one caption per caption index, each in a template drawn for this step."""
    names = class_names(BACKGROUND)
    texts = []
    for k in classes:
        name = step_draws.choice(BACKGROUND_PROMPTS) if k == BACKGROUND else names[k]
        texts.append(step_draws.choice(TEMPLATES).format(name))
    return texts


def tile_loss(tile: Tensor, texts: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    """Contrast tiles with captions, both ways (InfoNCE with several positives per caption).

    Args:
        tile: (T, d) embeddings of the tiles.
        texts: (U, d) embeddings of the distinct captions.
        target: (T,) caption index 0..U-1 of each tile.
        scale: inverse temperature.
    """
    tile, texts = functional.normalize(tile, dim=-1), functional.normalize(texts, dim=-1)
    logits = scale * tile @ texts.T  # (T, U)
    forward = functional.cross_entropy(logits, target)
    positive = functional.one_hot(target, len(texts)).float()  # (T, U)
    share = positive / positive.sum(dim=0, keepdim=True)
    backward = -(share * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (forward + backward) / 2


def learning_rate(step: int, steps: int, peak: float = LEARNING_RATE) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2)


def new_model(seed: int, name: str = "embedded") -> open_clip.CLIP:
    """Return the untrained small CLIP, initialised from ``seed``."""
    register()
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        return open_clip.create_model(name, load_weights=False)


def train_steps(model: open_clip.CLIP, seed: int, steps: int, batch: int = BATCH) -> None:
    """Train ``model`` in place for ``steps`` steps; a function of its arguments on one machine."""
    encode, trunk = tokenizer(), OpenClipTrunk(model.visual)
    optimizer = _optimizer(model)
    source, start = Mosaics(seed, single=trunk.pooling != "avg"), time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        window = window_of(step, steps)
        images, tiles, captions = (torch.from_numpy(a) for a in source.batch(step, batch, window))
        distinct, target = captions.unique(return_inverse=True)
        texts = encode(captions_of(Draws("pretrain", seed, "captions", step), distinct.tolist()))
        with torch.autocast("cpu", torch.bfloat16):
            tile = tile_embeddings(trunk, normalised(images), tiles, len(target), window)
            embedded = model.encode_text(texts).float()
        scale = model.logit_scale.clamp(max=MAX_SCALE).exp()
        loss = tile_loss(tile, embedded, target, scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 24 or step == steps - 1:
            seconds = time.monotonic() - start
            left = seconds / (step + 1) * (steps - step - 1)
            done = f"{step + 1}/{steps}"
            logger.info("step %s window %d loss %.3f, %.0f s left", done, window, loss.item(), left)


def _optimizer(model: open_clip.CLIP) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices, not biases, norms and the temperature."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))


def pretrain_clip(out: Path, seed: int = 0, steps: int = STEPS, name: str = "embedded") -> Path:
    """Pre-train a small CLIP and write its weights, float16, to ``out/{name}.safetensors``.

    Args:
        out: folder of the weights.
        seed: of initialisation, mosaics and captions; disjoint from every scene's seed.
        steps: optimizer steps; the result is a function of seed and steps.
        name: architecture, one of ``ids.EMBEDDED``.

    Returns:
        The file written.

    Raises:
        InputError: if there is no such architecture, or no step.
    """
    if name not in EMBEDDED:
        expected = f"one of {', '.join(EMBEDDED)}"
        raise InputError(f"no architecture {name!r} to pre-train", "--name", expected)
    if steps < 1:
        raise InputError(f"{steps} steps", "--steps", "at least one")
    model = new_model(seed, name)
    train_steps(model, seed, steps)
    path = out / f"{name}.safetensors"
    save_half(model, path, f"clclip pretrain-clip --name {name} --seed {seed} --steps {steps}")
    return path


def save_half(model: open_clip.CLIP, path: Path, made_by: str) -> None:
    """Write all weights in float16, half the size; ``made_by`` is the command that makes them.

    The file's bytes decide the CLIP's id, and the library writes several metadata keys in any
    order: there is one.
    """
    state = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata={"made_by": made_by})
