"""A memo for one command: annotations of gigabytes that it needs several times are read once.

A plan asks for the facts of a data set wherever it needs them. Outside ``memo_scope`` each call
reads: a planner must not hold the annotations of every data set for as long as a workflow runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Value = TypeVar("Value")

_known: ContextVar[dict[str, Any] | None] = ContextVar("known", default=None)


@contextmanager
def memo_scope() -> Iterator[None]:
    """Within it, ``memoised`` calls each function once per key; then all values are dropped."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def memoised(key: str, read: Callable[[], Value]) -> Value:
    """Return ``read()``, or within ``memo_scope`` what it returned before for the same key."""
    known = _known.get()
    if known is None:
        return read()
    if key not in known:
        known[key] = read()
    return known[key]
