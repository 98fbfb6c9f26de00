"""Prefetching: batches are prepared in threads while the device trains."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Prefetcher(Generic[Value]):
    """Computes values of a pure function in threads before they are needed.

    A value depends on its key alone, so a prefetched one equals one computed on demand.

    Args:
        make: the function, called in threads.
        depth: number of values computed ahead, by as many threads; 0: none.
    """

    def __init__(self, make: Callable[..., Value], depth: int) -> None:
        self.make, self.depth = make, depth
        self._pool = ThreadPoolExecutor(depth, "prefetch") if depth else None
        self._waiting: dict[Hashable, Future[Value]] = {}

    def submit(self, *key: Hashable) -> None:
        """Start to compute a value that ``get`` will return later."""
        if self._pool is not None and key not in self._waiting:
            self._waiting[key] = self._pool.submit(self.make, *key)

    def get(self, *key: Hashable) -> Value:
        """Return a value; an error in a thread is raised here."""
        future = self._waiting.pop(key, None)
        return self.make(*key) if future is None else future.result()

    def close(self) -> None:
        """Cancel what has not started."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
