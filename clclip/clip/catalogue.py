"""open_clip's table of pretrained tags, stored in ``tags.json``: its import takes seconds of torch.

``uv run python -m clclip.clip.catalogue`` writes the file anew for another release. Where another
release is installed nothing is known here, and ``clclip fetch-clip``, which imports open_clip, is
the one to refuse a tag.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import metadata
from pathlib import Path

FILE = Path(__file__).with_name("tags.json")


def known_tags(model: str) -> list[str] | None:
    """Return the pretrained tags of an architecture; None where they are not known."""
    release, tags = _table()
    return tags.get(model, []) if release == installed_release() else None


def installed_release() -> str | None:
    """Return the version of open_clip, None where it is not installed."""
    try:
        return metadata.version("open_clip_torch")
    except metadata.PackageNotFoundError:
        return None


def table_text() -> str:
    """Return ``tags.json`` for the open_clip that is installed, which is imported."""
    import open_clip

    models = {model for model, _ in open_clip.list_pretrained()}
    tags = {model: open_clip.list_pretrained_tags_by_model(model) for model in sorted(models)}
    return json.dumps({"open_clip": installed_release(), "tags": tags}, indent=1) + "\n"


@cache
def _table() -> tuple[str, dict[str, list[str]]]:
    """Return the release that the file is of, and {architecture: tags}."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    return content["open_clip"], content["tags"]


if __name__ == "__main__":
    FILE.write_text(table_text(), encoding="utf-8")
