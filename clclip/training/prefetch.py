"""Work done ahead of time: batches are prepared in threads while the device trains."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Ahead(Generic[Value]):
    """Values of a pure function, made before they are asked for.

    A value depends on its key alone, so one made ahead equals one made when it is asked for.

    Args:
        make: the function, called in threads.
        depth: how many values are made ahead, by as many threads; 0: none.
    """

    def __init__(self, make: Callable[..., Value], depth: int) -> None:
        self.make, self.depth = make, depth
        self._pool = ThreadPoolExecutor(depth, "ahead") if depth else None
        self._waiting: dict[Hashable, Future[Value]] = {}

    def expect(self, *key: Hashable) -> None:
        """Start to make a value that will be asked for."""
        if self._pool is not None and key not in self._waiting:
            self._waiting[key] = self._pool.submit(self.make, *key)

    def get(self, *key: Hashable) -> Value:
        """Return a value; what went wrong in a thread is raised here."""
        future = self._waiting.pop(key, None)
        return self.make(*key) if future is None else future.result()

    def close(self) -> None:
        """Drop what is waiting."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
