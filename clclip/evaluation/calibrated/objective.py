"""What a class's threshold is chosen for; read with the configuration, so without numpy."""

from __future__ import annotations

from dataclasses import dataclass

from clclip.core.errors import WrongValue


@dataclass(frozen=True)
class Objective:
    """What a threshold is chosen for.

    Attributes:
        precision: the least share right among what is shown; None: the best F1.
    """

    precision: float | None = None

    @classmethod
    def read(cls, text: str) -> Objective:
        """Read ``f1`` or ``precision:0.9``.

        Raises:
            WrongValue: if it is neither.
        """
        word, _, value = text.partition(":")
        if text == "f1":
            return cls()
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if word != "precision" or not 0 < share <= 1:
            raise WrongValue(f"objective {text!r}", "f1, or precision:0.9 (above 0, at most 1)")
        return cls(share)

    def __str__(self) -> str:
        return "f1" if self.precision is None else f"precision:{self.precision:g}"
