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

from clclip.clip.embedded import MEAN, STD, register, tokenizer
from clclip.clip.mosaic import BACKGROUND, TOKENS, Mosaics
from clclip.clip.prompts import BACKGROUND_PROMPTS, TEMPLATES
from clclip.clip.trunk import OpenClipTrunk
from clclip.data.draws import Draws
from clclip.data.shapes import class_names
from clclip.files import replacing

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


def token_embeddings(model: open_clip.CLIP, images: Tensor, window: int = TOKENS) -> Tensor:
    """Return the projected tokens (B, 256, d) whose mean is the image embedding; not normalised.

    Attention stays within windows of ``window`` x ``window`` tokens: whole images in miniature. It
    costs less, and what an object looks like is learned several times faster before attention has
    to find it in a crowd.
    """
    trunk = OpenClipTrunk(model.visual)
    x, _ = trunk.embed(images)  # (B, 1 + 256, C)
    token, x = x[:, :1], x[:, 1:]
    batch, count, across = len(x), (TOKENS // window) ** 2, TOKENS // window
    x = x.reshape(batch, across, window, across, window, -1).transpose(2, 3)
    x = x.reshape(batch * count, window * window, -1)  # (B * windows, window^2, C)
    x = torch.cat([token.repeat_interleave(count, dim=0), x], dim=1)
    for block in trunk.blocks:
        x = block(x)
    x = trunk.head(x[:, 1:]).reshape(batch, across, across, window, window, -1)
    return x.transpose(2, 3).reshape(batch, TOKENS * TOKENS, -1)


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


def tile_loss(
    tokens: Tensor, tiles: Tensor, texts: Tensor, target: Tensor, scale: Tensor
) -> Tensor:
    """Contrast tiles with captions, both ways (InfoNCE with several positives per caption).

    Args:
        tokens: (B, n, d) projected tokens.
        tiles: (B, n) tile index of each token, 0..T-1.
        texts: (U, d) embeddings of the distinct captions.
        target: (T,) caption index 0..U-1 of each tile.
        scale: inverse temperature.
    """
    total = torch.zeros(len(target), tokens.shape[-1]).index_add_(
        0, tiles.flatten(), tokens.flatten(0, 1)
    )
    tile = functional.normalize(total, dim=-1)  # (T, d); a mean and a sum have the same direction
    logits = scale * tile @ functional.normalize(texts, dim=-1).T  # (T, U)
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
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return open_clip.create_model(name)


def train_steps(model: open_clip.CLIP, seed: int, steps: int, batch: int = BATCH) -> None:
    """Train ``model`` in place for ``steps`` steps; a function of its arguments on one machine."""
    encode = tokenizer()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    source, start = Mosaics(seed), time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        window = window_of(step, steps)
        images, tiles, captions = (torch.from_numpy(a) for a in source.batch(step, batch, window))
        distinct, target = captions.unique(return_inverse=True)
        texts = encode(captions_of(Draws("pretrain", seed, "captions", step), distinct.tolist()))
        with torch.autocast("cpu", torch.bfloat16):
            tokens = token_embeddings(model, normalised(images), window)
            embedded = model.encode_text(texts)
        scale = model.logit_scale.clamp(max=MAX_SCALE).exp()
        loss = tile_loss(tokens.float(), tiles.flatten(1), embedded.float(), target, scale)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 24 or step == steps - 1:
            seconds = time.monotonic() - start
            left = seconds / (step + 1) * (steps - step - 1)
            logger.info(
                "step %d/%d window %d loss %.3f, %.0f s left",
                step + 1,
                steps,
                window,
                loss.item(),
                left,
            )


def pretrain_clip(out: Path, seed: int = 0, steps: int = STEPS, name: str = "embedded") -> Path:
    """Pre-train a small CLIP and write its weights, float16, to ``out/{name}.safetensors``.

    Args:
        out: folder of the weights.
        seed: of initialisation, mosaics and captions; disjoint from every scene's seed.
        steps: optimizer steps; the result is a function of seed and steps.
        name: architecture, one of ``fetch.EMBEDDED``.

    Returns:
        The file written.
    """
    model = new_model(seed, name)
    train_steps(model, seed, steps)
    path = out / f"{name}.safetensors"
    save_half(
        model, path, {"seed": str(seed), "steps": str(steps), "made_by": "clclip pretrain-clip"}
    )
    return path


def save_half(model: open_clip.CLIP, path: Path, metadata: dict[str, str]) -> None:
    """Write all weights in float16: half the size, and no class of the benchmark changes by it."""
    state = {key: value.detach().half().contiguous() for key, value in model.state_dict().items()}
    with replacing(path) as temporary:
        save_file(state, temporary, metadata=metadata)
