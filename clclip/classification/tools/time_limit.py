"""How long a command may take, by a clock that a test can turn by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Clock = Callable[[], float]


class TimeLimit:
    """Seconds from now on.

    Args:
        seconds: that may pass.
        clock: tells the seconds since any fixed moment.
    """

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self._start = clock()

    @property
    def taken(self) -> float:
        """Seconds that have passed."""
        return self.clock() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left; below 0 once the limit is passed."""
        return self.seconds - self.taken

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Count nothing that happens inside."""
        begun = self.clock()
        try:
            yield
        finally:
            self._start += self.clock() - begun
