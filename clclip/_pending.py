"""Stand-ins for identifiers whose owner modules are still being written; to be removed."""

from __future__ import annotations

import importlib
from typing import Any

from clclip.task_file import digest


def owned(module: str, name: str) -> Any:
    """Return the owner's function, or a digest of the arguments while it does not exist."""
    def stand_in(*args: Any, **named: Any) -> str:
        return f"{name.split('_')[0]}-{digest([args, named], 8)}"
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return stand_in

    def call(*args: Any, **named: Any) -> str:
        try:
            return found(*args, **named)
        except ValueError as error:
            if "no weights of embedded" in str(error):
                return stand_in(*args, **named)
            raise
    return call
