"""What tasks leave behind: weights.safetensors of each task, and the memory that they add up to.

A record holds what its task added or changed. Prompts and text embeddings of old tasks, raw
prototypes and (without replay) refined prototypes are never written again, so they stay byte-equal
by construction.

Keys: ``adapter.{block}.{down,up}`` or ``tower.{name}``; ``prompt`` (M, width); ``text`` (K, d) of
this task's prompt on all seen classes and ``text_before`` (s-1, K_new, d) of earlier prompts on the
new ones; ``raw``, ``centroid``, ``linear`` (K_new, d); ``refined`` (K_new, d), or (K, d) with
replay; ``mixer.*``, ``refinement.*``; ``pool`` (P,), tasks whose snapshots are stored;
``gaussian.*``; ``features`` (N, d) and ``labels`` (N,) of a closed-form classifier, with
``drift.map`` (d, d), ``drift.shift`` (d,) of a task that moved older ones; and for the report
``relevance`` (K_new, P) with ``relevance_tasks`` (P,), ``affinity`` (K, K).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from clclip.core.errors import InputError
from clclip.core.weights_file import misfit
from clclip.training.tensors import save_tensors

Record = dict[str, Tensor]


def write_record(path: Path, record: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a record, whole; equal records make equal files."""
    save_tensors(path, {name: value.clone() for name, value in record.items()}, metadata)


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: if it is missing or not a complete safetensors file.
    """
    expected = "the weights that `clclip train` writes (train the earlier tasks first)"
    if not path.is_file():
        raise InputError("no such file", path, expected)
    try:
        with safe_open(path, framework="pt") as file:
            record = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"not readable ({error})", path, expected) from None
    for name, value in record.items():
        whole = name in ("pool", "labels") or name.endswith("_tasks")
        if not whole and not value.is_floating_point():
            raise InputError(f"tensor {name!r} of type {value.dtype}", path, "floating point")
        if not torch.isfinite(value).all():
            raise InputError(f"tensor {name!r} is not finite", path, "finite numbers")
    return record


@dataclass
class Memory:
    """The records of tasks 1..n, and what follows from them.

    Attributes:
        records: one per task.
        where: the folder of the tasks, for messages.
    """

    records: Sequence[Record]
    where: object = "the weights of earlier tasks"

    def __len__(self) -> int:
        return len(self.records)

    def part(self, prefix: str, task: int | None = None) -> Record:
        """Return the tensors under ``prefix.`` of a task, or of the last that has them."""
        records = self.records if task is None else [self.records[task - 1]]
        for record in reversed(records):
            part = {
                name.removeprefix(prefix + "."): value
                for name, value in record.items()
                if name.startswith(prefix + ".")
            }
            if part:
                return part
        return {}

    def fill(self, module: nn.Module, part: Record, strict: bool = True) -> None:
        """Load tensors of a record into a module.

        Raises:
            InputError: if names or shapes are those of another configuration.
        """
        self.check(module.state_dict(), part, strict)
        module.load_state_dict(part, strict=strict)

    def check(self, expected: Mapping[str, Tensor], part: Record, strict: bool = True) -> None:
        """Raise InputError if names or shapes of a record are those of another configuration."""
        if difference := misfit(expected, part, strict):
            raise self._unfit(difference)

    def _unfit(self, reason: str = "tensors whose sizes differ") -> InputError:
        """Return what to say of tensors of another configuration."""
        expected = "weights made with this task's switches and CLIP"
        return InputError(f"weights that do not fit ({reason})", self.where, expected)

    def pool(self) -> list[int]:
        """Return the tasks whose adapter snapshots are pooled, oldest first."""
        if not self.records or "pool" not in self.records[-1]:
            return []
        return self.records[-1]["pool"].tolist()

    def prompts(self) -> list[Tensor]:
        """Return the learned prompts (M, width) of tasks 1..n."""
        return [record["prompt"] for record in self.records if "prompt" in record]

    def text(self) -> Tensor:
        """Return unit text embeddings (s, K, d) of all prompts and seen classes."""
        rows = []
        try:
            for i, record in enumerate(self.records):
                later = [other["text_before"][i] for other in self.records[i + 1 :]]
                rows.append(torch.cat([record["text"], *later]))
            return torch.stack(rows)
        except RuntimeError:
            raise self._unfit() from None

    def rows(self, name: str) -> Tensor | None:
        """Return the rows (K, d) called ``name``, each class's from its own task, or None."""
        parts = [record[name] for record in self.records if name in record]
        try:
            return torch.cat(parts) if parts else None
        except RuntimeError:
            raise self._unfit() from None

    def refined(self) -> Tensor | None:
        """Return the refined prototypes (K, d); a record with all rows (replay) replaces them."""
        table: Tensor | None = None
        seen = 0
        for record in self.records:
            if "refined" not in record:
                continue
            rows = record["refined"]
            seen += len(record["raw"])
            table = rows if table is None or len(rows) == seen else torch.cat([table, rows])
        return table


def read_memory(folders: Sequence[Path]) -> Memory:
    """Return what the tasks of ``folders`` left behind.

    Raises:
        InputError: as ``read_record``.
    """
    records = [read_record(folder / "weights.safetensors") for folder in folders]
    return Memory(records, folders[0].parent if folders else "no task")
