"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from clclip.core.names import distinguished, look_alike

TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.?)")


class InputError(ValueError):
    """Bad input of the user: reported as one line and exit status 2.

    Args:
        what: the problem, with the offending value.
        where: the file, key or option that is wrong.
        expected: what would have been right.
    """

    def __init__(self, what: str, where: object, expected: str) -> None:
        what, where, expected = (_plain(str(part)) for part in (what, where, expected))
        self.what, self.where, self.expected = what, where, expected
        super().__init__(" ".join(f"{what}, in {where}, expected {expected}".split()))


def _plain(text: str) -> str:
    """Return text without the codes that colour a terminal: libraries put them into messages."""
    return TERMINAL_CODES.sub("", text)


class WrongValue(ValueError):
    """A value that a check refuses; whoever reads the file makes an InputError of it.

    Args:
        what: the problem.
        expected: what would have been right.
    """

    def __init__(self, what: str, expected: str) -> None:
        self.what, self.expected = what, expected
        super().__init__(f"{what}; expected {expected}")


_KINDS = {
    "a mapping of keys to values": "model_type dict_type model_attributes_type dataclass_type",
    "a list": "list_type tuple_type set_type frozen_set_type",
    "a text": "string_type",
    "a whole number": "int_type int_parsing int_from_float",
    "a number": "float_type float_parsing",
    "true or false": "bool_type bool_parsing",
}


def wanted(type_: str, message: str) -> str:
    """Return what pydantic would take, in words that need no Python.

    Args:
        type_: of its error.
        message: of its error.
    """
    for words, types in _KINDS.items():
        if type_ in types.split():
            return words
    return message.removeprefix("Input should be ")


def nearest(word: str, candidates: Iterable[str]) -> str:
    """Return " (did you mean ...?)" for the candidate closest to ``word``, or "" if none is.

    One that differs by capital letters alone is the closest. Two texts that look the same are
    shown by their code points.
    """
    known = list(candidates)
    alike = [name for name in known if name != word and look_alike(name, word)]
    same = [name for name in known if name != word and name.lower() == word.lower()]
    matches = alike or same or difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not matches:
        return ""
    right, wrong = distinguished(matches[0], word)
    alike_only = alike or (right, wrong) != (repr(matches[0]), repr(word))
    return f" (did you mean {right}?{f' It only looks like {wrong}' if alike_only else ''})"
