"""What the documentation says to type and to write, as the tests read it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`\n]+)`")
TYPED = ("uv", "pip", "clclip", "snakemake", "CLCLIP_FUZZ=3000")


def pages(root: Path) -> list[Path]:
    """Return the README and all pages of the documentation."""
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return (language, text) of a page's fenced blocks."""
    return FENCE.findall(page.read_text(encoding="utf-8"))


def files_to_write(page: Path) -> dict[str, str]:
    """Return the files that a page tells to write: YAML blocks whose first line names one."""
    found = {}
    for language, text in blocks(page):
        name = re.match(r"# ([\w.]+\.yaml)\n", text)
        if language == "yaml" and name:
            found[name.group(1)] = text
    return found


def commands(page: Path) -> list[list[str]]:
    """Return the commands of a page's blocks and of its running text, without ``uv run``."""
    lines = []
    for language, text in blocks(page):
        if language in ("sh", "bash") or (not language and text.split()[0] in TYPED):
            lines += re.sub(r"\\\n\s*", "", text).splitlines()
    outside = re.sub(r"\s*\n\s*", " ", FENCE.sub("\n\n", page.read_text(encoding="utf-8")))
    typed = ("uv run ", "clclip ", "snakemake ")
    lines += [code for code in INLINE.findall(outside) if code.startswith(typed)]
    found = []
    for line in lines:
        for part in re.split(r"\s&&\s", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words = words[1:]
            words = words[2:] if words[:2] == ["uv", "run"] else words
            if words:
                found.append(words)
    return found
