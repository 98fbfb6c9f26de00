"""Learned text prompts: tokens before the class name in CLIP's frozen text tower.

Layout ``[SOS] p_1 .. p_M name [EOS]``; towers without a start token (SigLIP) read ``p_1 .. p_M name
[EOS] pad ..``. The tower's own positions, mask, pooling and projection follow. Sequences are cut to
the longest one where a causal mask makes that exact, which costs 16 tokens rather than 77.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clclip.core.errors import InputError

logger = logging.getLogger(__name__)

Tokenizer = Callable[[list[str]], Tensor]


def new_prompt(length: int, width: int, generator: torch.Generator) -> nn.Parameter:
    """Return the tokens of a new task: (length, width), drawn from N(0, 0.02^2)."""
    return nn.Parameter(0.02 * torch.randn(length, width, generator=generator))


class PromptedText:
    """Text embeddings of class names behind learned tokens.

    Args:
        model: an open_clip model (its text tower is only read).
        tokenizer: texts -> token ids (K, context length).
        names: the texts of the classes, in column order.
        length: number M of learned tokens.

    Raises:
        InputError: if the model has no open_clip text tower, or the prompt leaves no room for a
            name.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Tokenizer, names: Sequence[str], length: int
    ) -> None:
        self.text = text_tower(model)
        self.length = length
        self.context = self.text.positional_embedding.shape[0]
        if length + 3 > self.context:
            raise InputError(
                f"prompt_length {length}",
                "switches.prompt_length",
                f"at most {self.context - 3} for a context of {self.context} tokens",
            )
        self.start = _start_tokens(tokenizer)
        names = [name.replace("_", " ") for name in names]
        self.ids = self._insert(tokenizer(names).to(self.device), names)  # (K, L)

    @property
    def device(self) -> torch.device:
        """Device of the text tower."""
        return self.text.positional_embedding.device

    @property
    def width(self) -> int:
        """Width of a prompt token."""
        return self.text.token_embedding.weight.shape[1]

    def _insert(self, ids: Tensor, names: list[str]) -> Tensor:
        """Return ids (K, L) with M placeholders after the start; a lost end token is put back."""
        start, room = self.start, self.context - self.length
        placeholder = ids[:, start : start + 1].expand(-1, self.length)
        ids = torch.cat([ids[:, :start], placeholder, ids[:, start:]], dim=1)
        ends = self._ends(ids)
        for row in torch.nonzero(ends >= self.context).flatten().tolist():
            logger.warning("class name %r is cut to %d tokens behind the prompt", names[row], room)
            ids[row, self.context - 1] = ids[row, ends[row]]
        if self.text.causal:  # what follows the end token cannot be seen by it
            return ids[:, : min(int(ends.max()) + 1, self.context)]
        return ids[:, : self.context]

    def _ends(self, ids: Tensor) -> Tensor:
        """Return the position (K,) of the token at which each text is read."""
        if self.text.pool_type == "argmax":
            return ids.argmax(dim=1)
        if self.text.pool_type == "eos":
            return (ids == self.text.eos_id).int().argmax(dim=1)
        # "last", "first": no token marks the end; what is not padding ends the text
        padding = ids[:, -1:]
        used = (ids != padding) * torch.arange(ids.shape[1], device=ids.device)
        return used.amax(dim=1)

    def __call__(self, prompt: Tensor, columns: slice | Tensor | None = None) -> Tensor:
        """Return unit embeddings (K, embed_dim) of the columns under ``prompt`` (M, width)."""
        ids = self.ids if columns is None else self.ids[columns]
        tower, start = self.text, self.start
        embedded = tower.token_embedding(ids)  # (K, L, width)
        tokens = prompt.to(embedded.dtype).expand(len(ids), -1, -1)
        x = torch.cat([embedded[:, :start], tokens, embedded[:, start + self.length :]], dim=1)
        return F.normalize(tower.encode(x, ids), dim=-1)


def template_text(
    model: nn.Module, tokenizer: Tokenizer, names: Sequence[str], template: str
) -> Tensor:
    """Return unit text embeddings (K, embed_dim) of ``template`` filled with each name."""
    if "{}" not in template:
        raise InputError(f"template {template!r}", "switches.template", "a sentence with one {}")
    tower = text_tower(model)
    ids = tokenizer([template.replace("{}", name.replace("_", " ")) for name in names])
    ids = ids.to(tower.positional_embedding.device)
    with torch.no_grad():
        return F.normalize(tower.encode(tower.token_embedding(ids), ids), dim=-1)


class TextTower:
    """The parts of an open_clip text tower, which open_clip keeps in two places."""

    def __init__(self, owner: nn.Module, pool_type: str, eos_id: int | None) -> None:
        self.token_embedding = owner.token_embedding
        self.positional_embedding = owner.positional_embedding
        self.transformer, self.ln_final = owner.transformer, owner.ln_final
        self.projection = owner.text_projection
        self.mask = owner.attn_mask
        self.causal = self.mask is not None and pool_type != "last"
        self.pool_type, self.eos_id = pool_type, eos_id

    def encode(self, x: Tensor, ids: Tensor) -> Tensor:
        """Return (K, embed_dim) for tokens x (K, L, width); ``ids`` (K, L) decide the pooling."""
        from open_clip.transformer import text_global_pool

        length = x.shape[1]
        x = x + self.positional_embedding[:length]
        mask = None if self.mask is None else self.mask[:length, :length]
        x = self.ln_final(self.transformer(x, attn_mask=mask))
        pooled = text_global_pool(x, ids, self.pool_type, eos_token_id=self.eos_id)
        if self.projection is None:
            return pooled
        linear = isinstance(self.projection, nn.Linear)
        return self.projection(pooled) if linear else pooled @ self.projection


def text_tower(model: nn.Module) -> TextTower:
    """Return the text tower of an open_clip model.

    Raises:
        InputError: if it has none, or one into which prompt tokens cannot be inserted.
    """
    owner = getattr(model, "text", model)
    needed = "an open_clip model with a text transformer of its own"
    if not hasattr(owner, "token_embedding") or not hasattr(owner, "positional_embedding"):
        raise InputError(f"model {type(model).__name__} without a text tower", "clip.model", needed)
    if getattr(owner, "cls_emb", None) is not None or getattr(owner, "use_pad_mask", False):
        raise InputError(
            "text tower with an appended class token or padding mask", "clip.model", needed
        )
    if owner is model:
        return TextTower(owner, owner.text_pool_type, owner.text_eos_id)
    return TextTower(owner, owner.pool_type, owner.eos_id)


def _start_tokens(tokenizer: Tokenizer) -> int:
    """Return 1 if the tokenizer begins every text with the same token, else 0."""
    first = tokenizer(["cat", "zebra"])[:, 0]
    return int(bool(first[0] == first[1]))
