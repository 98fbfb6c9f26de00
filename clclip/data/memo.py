"""Reading once what one command needs several times: annotations of gigabytes, asked for anew.

A plan asks for the facts of a data set wherever it needs them. Outside ``remembered`` each call
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
def remembered() -> Iterator[None]:
    """Within it, ``once`` calls each function once per key; what they returned is then let go."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def once(key: str, read: Callable[[], Value]) -> Value:
    """Return ``read()``, or within ``remembered`` what it returned before for the same key."""
    known = _known.get()
    if known is None:
        return read()
    if key not in known:
        known[key] = read()
    return known[key]
