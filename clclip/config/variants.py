"""Variants: what may follow a method's name in an experiment's name (``config/variants.yaml``)."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Any

from pydantic import Field

from clclip.config.yaml_files import merged, read_yaml, shipped_folder
from clclip.core.models import Strict, parse


class Variant(Strict):
    """Keys that a variant lays over those of the stream, and what it fits."""

    methods: list[str] | None = Field(None, description="the methods that it fits")
    formats: list[str] | None = Field(None, description="the formats of data that it fits")
    clip: dict[str, Any] = Field({}, description="the frozen CLIP")
    training: dict[str, Any] = Field({}, description="how a task is trained")
    switches: dict[str, Any] = Field({}, description="the method's switches")
    per_kind: dict[str, dict[str, Any]] = Field({}, description="what one kind does otherwise")
    per_method: dict[str, dict[str, Any]] = Field({}, description="what one method does otherwise")

    def fits(self, method: str, data_format: str) -> bool:
        """Tell whether the variant means something for a method on data of a format."""
        named = self.methods or list(self.per_method)
        return (not named or method in named) and (
            self.formats is None or data_format in self.formats
        )

    def for_whom(self) -> str:
        """Return in words what the variant fits."""
        named = self.methods or list(self.per_method)
        who = f"the method{'s' * (len(named) > 1)} {', '.join(named)}" if named else "all methods"
        return who + (f" on data of format {' or '.join(self.formats)}" if self.formats else "")

    def values(self, kind: str, method: str) -> dict[str, Any]:
        """Return its keys for a method, as an experiment file would hold them."""
        keys = ("clip", "training", "switches")
        own = {key: value for key in keys if (value := getattr(self, key))}
        own = merged(own, self.per_kind.get(kind, {}))
        return merged(own, self.per_method.get(method, {}))


@cache
def shared_variants() -> dict[str, Variant]:
    """Return the variants of ``config/variants.yaml``.

    Raises:
        InputError: if anything in it is wrong.
    """
    path = shipped_folder() / "variants.yaml"
    return {
        name: parse(Variant, values, f"{path}: {name}") for name, values in read_yaml(path).items()
    }


def leaves(values: dict[str, Any], above: str = "") -> Collection[str]:
    """Return the dotted keys that hold the values of nested mappings."""
    keys: set[str] = set()
    for key, value in values.items():
        own = f"{above}{key}"
        keys |= set(leaves(value, f"{own}.")) if isinstance(value, dict) else {own}
    return keys
