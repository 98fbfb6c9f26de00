"""The text side: class embeddings from a fixed template or from a learned prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from clclip.classification.records import Record
from clclip.classification.seca.parts.context import Context
from clclip.classification.seca.prompts import PromptedText, new_prompt, template_text


class TextSide:
    """The text embeddings of the seen classes, in column order.

    Args:
        context: the task.
        model: an open_clip model.
        tokenizer: texts -> token ids.
        names: texts of the seen classes, previous ones first.
    """

    def __init__(
        self,
        context: Context,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        names: Sequence[str],
    ) -> None:
        self.context, options = context, context.options
        self.parameters: dict[str, nn.Parameter] = {}
        self.template: Tensor | None = None
        self.before: Tensor | None = None
        if options.prompt == "learned":
            self.encoder = PromptedText(model, tokenizer, names, options.prompt_length)
            draw = context.draw("prompt")
            prompt = new_prompt(options.prompt_length, self.encoder.width, draw)
            self.prompt = nn.Parameter(prompt.data.to(context.device))
            self.parameters["prompt"] = self.prompt
        else:
            self.template = template_text(model, tokenizer, names, options.template)

    def begin(self) -> None:
        """Compute the current classes' embeddings (s - 1, K_new, d) under the earlier prompts."""
        prompts = self.context.memory.prompts()
        if self.template is not None or not prompts:
            return
        new = slice(self.context.old, None)
        rows = [self.encoder(prompt.to(self.context.device), new) for prompt in prompts]
        self.before = torch.stack(rows)

    def embeddings(self, columns: slice) -> Tensor:
        """Return the unit embeddings (C, d) of some seen classes; gradient flows to the prompt."""
        if self.template is not None:
            return self.template[columns]
        return self.encoder(self.prompt, columns)

    def record(self) -> tuple[Record, Tensor]:
        """Return what the task stores, and all seen classes' embeddings (K, d)."""
        if self.template is not None:
            return {}, self.template
        text = self.encoder(self.prompt)
        record: Record = {"prompt": self.prompt, "text": text}
        if self.before is not None:
            record["text_before"] = self.before
        return record, text
