"""CLIP-based continual learning: CL-CLIP (object detection) and SECA (image classification).

``clclip.load_run("results")`` reads what a workflow wrote; see ``clclip.results.run``.
``clclip.load_model("model")`` loads a trained model for images; see ``clclip.model.load``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "load_model", "load_run"]

# Name -> module. Found when asked for, so that importing a part of the package stays cheap.
_PUBLIC = {
    "load_run": "clclip.results.run",
    "load_model": "clclip.model.load",
    "InputError": "clclip.core.errors",
}


def __getattr__(name: str) -> Any:
    """Return a public name from the module that holds it."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'clclip' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
