"""YAML mappings read with one line for whatever is wrong, laid over each other; shipped files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from clclip.core.errors import InputError

PACKAGE = Path(__file__).parents[1]
MAX_BYTES = 4_000_000  # an experiment with 10,000 class names is far smaller


def project_folder() -> Path:
    """Return what holds ``workflow/``, ``profiles/`` and ``config/``.

    That is the checkout; of an installed wheel, a folder of the package.
    """
    inside = PACKAGE / "shipped"
    return inside if inside.is_dir() else PACKAGE.parent


def shipped_folder() -> Path:
    """Return the folder of the shipped ``config.yaml``, ``streams/`` and ``variants.yaml``."""
    return project_folder() / "config"


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; tags other than YAML's own are refused.

    Raises:
        InputError: if the file cannot be read, is not UTF-8, is not YAML or is not a mapping.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path.stat().st_size} bytes", path, f"at most {MAX_BYTES}")
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot be read ({reason})", path, "a readable YAML file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 ({error.reason})", path, "a text file in UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f"{path}: line {mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"not plain YAML ({problem})", where, "plain keys and values") from None
    if not isinstance(values, dict):
        what = "an empty file" if values is None else f"a {type(values).__name__}"
        raise InputError(f"got {what}", path, "a mapping of keys to values")
    for key in values:
        if not isinstance(key, str):
            raise InputError(f"got key {key!r}", path, "keys that are text")
    return values


class UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice and aliases that multiply."""

    aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count aliases: a hundred are plenty, nested ones grow exponentially."""
        if self.check_event(yaml.AliasEvent):
            self.aliases += 1
            if self.aliases > 100:
                raise yaml.YAMLError("more than 100 aliases")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Refuse duplicate keys, of which YAML would silently keep the last."""
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:merge" and isinstance(key.value, str):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key.value!r} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return ``above`` laid over ``below``: mappings key by key, everything else replaced."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)
        result[key] = value
    return result
