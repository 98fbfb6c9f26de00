"""Matplotlib as our figures use it: untouched by the reader's own settings.

A ``matplotlibrc``, a style chosen in a notebook or ``MPLBACKEND`` are meant for the reader's own
plots. Some of them make ours fail (``text.usetex`` without LaTeX, a backend that is not installed).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# settings that belong to the whole process and draw nothing
PROCESS_KEYS = {"backend", "backend_fallback", "interactive", "toolbar", "timezone"}


def load_matplotlib() -> Any:
    """Return matplotlib, imported even where the reader's settings make its import fail."""
    try:
        return importlib.import_module("matplotlib")
    except Exception:  # a backend that does not exist, a matplotlibrc that is not UTF-8, ...
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            del sys.modules[name]  # what the failed import has left half-made
        with _own_settings():
            return importlib.import_module("matplotlib")


@contextlib.contextmanager
def drawing(settings: Mapping[str, Any]) -> Iterator[None]:
    """Draw with matplotlib's defaults and ``settings``; the reader's own come back at the end."""
    matplotlib = load_matplotlib()
    defaults = {
        key: value for key, value in matplotlib.rcParamsDefault.items() if key not in PROCESS_KEYS
    }
    with matplotlib.rc_context(defaults | dict(settings)):
        yield


@contextlib.contextmanager
def _own_settings() -> Iterator[None]:
    """Hide every place from which matplotlib reads settings while it is imported."""
    spec = find_spec("matplotlib")
    home = Path(next(iter((spec and spec.submodule_search_locations) or [sys.prefix])))
    names = ("MPLBACKEND", "MATPLOTLIBRC")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ["MATPLOTLIBRC"] = str(home / "mpl-data" / "matplotlibrc")
    here = os.open(".", os.O_RDONLY)
    os.chdir(home)  # ./matplotlibrc comes before all others
    try:
        yield
    finally:
        os.fchdir(here)
        os.close(here)
        del os.environ["MATPLOTLIBRC"]
        os.environ.update({name: value for name, value in before.items() if value is not None})
