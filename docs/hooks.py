"""What the site has beyond its pages: generated references, and the code that pages name.

MkDocs calls these functions while it builds (``hooks:`` in mkdocs.yml). ``config-reference.md`` and
``commands.md`` are generated from the program; their files only say so. Every file of the project
that a page names in code type becomes a link to a page with its text, and every switch a link to
the config reference.
"""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path

from mkdocs.utils import get_relative_url
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound
from reference import commands_page, config_page, switch_keys

from clclip.config.names import is_name, read_name
from clclip.model.kinds import KINDS

ROOT = Path(__file__).parent.parent
GENERATED = {"config-reference.md": config_page, "commands.md": commands_page}
SWITCHES_OF = {
    "cl-clip.md": "detection",
    "methods.md": "detection",
    "add-a-method.md": "detection",
    "ablation.md": "detection",
    "seca.md": "classification",
    "closed-form.md": "classification",
}
FOLDERS = "clclip config workflow profiles envs tests benchmarks docs".split()
CODE = re.compile(r"(<pre.*?</pre>|<a [^>]*>.*?</a>)|<code>([^<>]+)</code>", re.DOTALL)
FILE = re.compile(r"([\w./-]+\.(?:py|yaml|json|smk|toml|txt|cff|rst))(?::(\d+))?")
named: set[str] = set()


def on_config(config):
    """Give pages that ``nav`` does not name yet a place at its end, so that none is unreachable."""
    listed = set(re.findall(r"[\w-]+\.md", str(config["nav"])))
    more = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name not in listed)
    if more:
        config["nav"].append({"More": more})
    return config


def on_pre_build(config):
    """Forget what an earlier build named."""
    named.clear()


def on_page_read_source(page, config):
    """Return a generated page in place of the few lines that stand in its file."""
    make = GENERATED.get(page.file.src_uri)
    return make() if make else None


def on_page_content(text, page, config, files):
    """Link the files and switches that a page names."""

    def linked(match: re.Match[str]) -> str:
        if match.group(1):
            return match.group(0)
        text = match.group(2)
        target = _target(html.unescape(text), page)
        if target is None:
            return match.group(0)
        place = re.fullmatch(r"clclip/.*?([\w.]+:\d+)", text)  # a line: the folder is in the link
        shown = (place.group(1) if place else text).replace("/", "/<wbr>")
        return f'<a href="{target}"><code>{shown}</code></a>'

    return CODE.sub(linked, text)


def on_post_build(config):
    """Write a page for every file that was named."""
    out = Path(config["site_dir"])
    for name in sorted(named):
        path = out / f"source/{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source_page(name), encoding="utf-8")


def source_page(name: str) -> str:
    """Return the text of a file of the project as a page, its lines numbered."""
    try:
        lexer = get_lexer_for_filename(name)
    except ClassNotFound:
        lexer = TextLexer()
    form = HtmlFormatter(linenos="inline", lineanchors="L", anchorlinenos=True)
    body = highlight((ROOT / name).read_text(encoding="utf-8"), lexer, form)
    light, dark = (HtmlFormatter(style=s).get_style_defs() for s in ("default", "github-dark"))
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{html.escape(name)}</title>
<style>{light}
body{{margin:0 auto;max-width:64rem;padding:1rem;font:16px/1.5 system-ui,sans-serif}}
pre{{overflow-x:auto;font:13px/1.45 ui-monospace,monospace}} pre a{{color:#767676}}
:target{{outline:2px solid #0072b2}} .highlight{{background:none}}
@media(prefers-color-scheme:dark){{body{{background:#14171c;color:#e6e9ee}} {dark}
pre a{{color:#8a939f}} .highlight{{background:none}} }}</style></head>
<body><h1 style="font-size:1.1rem">{html.escape(name)}</h1>{body}</body></html>"""


def _target(text: str, page) -> str | None:
    """Return the address that a piece of code type stands for, seen from a page; None if none."""
    kind = SWITCHES_OF.get(page.file.src_uri)
    key = text.partition(":")[0].strip()
    if kind and key in switch_keys(KINDS[kind]):
        return get_relative_url(f"config-reference.html#{kind}-{key}", page.url)
    if is_name(text):
        return _source(f"config/streams/{read_name(text).stream.file}.yaml", None, page)
    match = FILE.fullmatch(text)
    if match is None:
        return None
    own = f"clclip/{kind}/{match.group(1)}"  # two kinds may have files of one name
    return _source(own if (ROOT / own).is_file() else match.group(1), match.group(2), page)


def _source(name: str, line: str | None, page) -> str | None:
    """Return the address of a file's page, by its path or by a name that only one file has."""
    path = project_file(name)
    if path is None:
        return None
    named.add(path)
    address = get_relative_url(f"source/{path}.html", page.url)
    return address + (f"#L-{line}" if line else "")


@cache
def project_file(name: str) -> str | None:
    """Return the path inside the project of a file given by path, or by name inside the package."""
    inside = "/" not in name or name.split("/")[0] in FOLDERS
    if inside and ".." not in name and (ROOT / name).is_file():
        return name
    alike = [
        p for p in (ROOT / "clclip").rglob(Path(name).name) if p.as_posix().endswith(f"/{name}")
    ]
    return alike[0].relative_to(ROOT).as_posix() if len(alike) == 1 else None
