"""Classes as the command line names them."""

from __future__ import annotations

from collections.abc import Sequence

from clclip.core.errors import InputError, nearest
from clclip.core.names import canonical_name


def named(text: str, names: Sequence[str]) -> str | None:
    """Return the class that a text names as it stands, or else in canonical spelling; or None."""
    if text in names:
        return text
    wanted = canonical_name(text)
    return next((name for name in names if canonical_name(name) == wanted), None)


def chosen_classes(given: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the classes meant by texts that are each a name, or names separated by commas.

    A text that is a name as a whole is that class, so that a name may hold a comma. Names are
    compared in their canonical spelling.

    Args:
        given: the texts.
        names: the classes of the model.

    Raises:
        InputError: if a name is empty or no class of the model, or there is none.
    """
    chosen: list[str] = []
    for text in given:
        parts = [text] if named(text, names) else text.split(",")
        chosen += [named(part, names) or canonical_name(part) for part in parts]
    expected = f"classes of the model: {', '.join(names)}"
    for name in chosen or [""]:
        if not name:
            raise InputError("an empty class name", "--classes", expected)
        if name not in names:
            raise InputError(f"class {name!r}{nearest(name, names)}", "--classes", expected)
    return chosen
