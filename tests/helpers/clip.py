"""CLIPs for tests: real architectures with random weights and a tiny text tower."""

import open_clip
import torch

from clclip.clip.load import LoadedClip, quiet
from clclip.clip.trunk import trunk_of

TINY_TEXT = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}


def random_clip(name: str, seed: int = 0, **vision) -> LoadedClip:
    """Build ``name``, every parameter random; ``vision`` overrides its image tower."""
    torch.manual_seed(seed)
    config = open_clip.get_model_config(name)
    with quiet():
        model = open_clip.create_model(
            name,
            load_weights=False,
            text_cfg=TINY_TEXT,
            vision_cfg={**config["vision_cfg"], **vision},
        )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    size = model.visual.image_size
    return LoadedClip(
        model=model.eval(),
        tokenizer=lambda texts: torch.zeros(len(texts), 8, dtype=torch.long),
        image_size=size[0] if isinstance(size, tuple) else size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        embed_dim=config["embed_dim"],
        patch=trunk_of(model.visual).patch,
        name=name,
    )
