"""open_clip's table of pretrained tags, read from its source: importing it costs seconds of torch.

The table is a dictionary of literals. Where a release writes it otherwise nothing is known here,
and ``clclip fetch-clip``, which imports open_clip, is the one to refuse a tag.
"""

from __future__ import annotations

import ast
from functools import cache

from clclip.core.models import open_clip_folders

_QUICK = "-quickgelu"  # open_clip derives these names: tags whose weights want that activation


def known_tags(model: str) -> list[str] | None:
    """Return the pretrained tags of an architecture; None where they cannot be told."""
    table = _table()
    if table is None:
        return None
    own = list(table.get(model, {}))
    if own or not model.endswith(_QUICK):
        return own
    return [tag for tag, quick in table.get(model.removesuffix(_QUICK), {}).items() if quick]


@cache
def _table() -> dict[str, dict[str, bool]] | None:
    """Return {architecture: {tag: whether it wants QuickGELU}}, None if it is not as expected."""
    for folder in open_clip_folders():
        try:
            tree = ast.parse((folder.parent / "pretrained.py").read_text(encoding="utf-8"))
            values = {
                target.id: node.value
                for node in tree.body
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            models = _entries(values["_PRETRAINED"], values)
            return {name: _tags(node, values) for name, node in models.items()}
        except (OSError, SyntaxError, ValueError, KeyError, RecursionError):
            return None
    return None


def _tags(node: ast.expr, values: dict[str, ast.expr]) -> dict[str, bool]:
    """Return {tag: whether it wants QuickGELU} of one architecture."""
    found = {}
    for tag, call in _entries(node, values).items():
        if not isinstance(call, ast.Call):
            raise ValueError(tag)
        flags = [ast.literal_eval(k.value) for k in call.keywords if k.arg == "quick_gelu"]
        found[tag] = flags == [True]
    return found


def _entries(node: ast.expr, values: dict[str, ast.expr]) -> dict[str, ast.expr]:
    """Return the entries of ``dict(...)``, ``{...}`` or the name of one; ValueError if it is none.

    Args:
        node: the expression.
        values: what names of the module stand for.
    """
    if isinstance(node, ast.Name):
        return _entries(values[node.id], values)
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) if key else None for key in node.keys]
        pairs = list(zip(keys, node.values, strict=True))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
        if node.args:
            raise ValueError("arguments without a name")
        pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
    else:
        raise ValueError(type(node).__name__)
    if not all(isinstance(key, str) for key, _ in pairs):
        raise ValueError("a key that is no text")
    return {str(key): value for key, value in pairs}
