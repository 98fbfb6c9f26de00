"""The site builds without a warning, needs no network, and says what the program says."""

from __future__ import annotations

import ast
import fnmatch
import html.parser
import os
import re
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
import yaml

import clclip
from clclip.cli.command import commands
from clclip.config.names import known_names
from clclip.config.streams import stream_file, stream_files, streams
from clclip.config.variants import shared_variants
from clclip.model.kinds import KINDS
from docs import reference
from tests.helpers import docs

ROOT = Path(__file__).parents[3]
CODE_FILE = re.compile(r"[\w./*-]+\.(?:py|smk|yaml|toml|cff)")
STREAM = re.compile(r"(shapes|shapes80|voc|coco|cifar100|imagenet_[ra])_\d[\w*]*")


class Page(html.parser.HTMLParser):
    """The ids of a page, and what it points to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found[key] for key in ("id", "name") if found.get(key)}
        address = found.get("href") or found.get("src")
        if address and tag != "meta":
            self.links.append(address)
            if tag != "a" and found.get("rel") not in ("canonical", "next", "prev"):
                self.loads.append(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed (uv sync)")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def built(site) -> dict[str, Page]:
    paths = site.rglob("*.html")
    return {p.relative_to(site).as_posix(): Page(p.read_text(encoding="utf-8")) for p in paths}


def test_nothing_comes_from_the_network(site, built):
    for name, page in built.items():
        assert not [a for a in page.loads if a.startswith(("http", "//"))], name
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet.name


def test_every_link_leads_somewhere(site, built):
    for name, page in built.items():
        for address in page.links:
            url = urllib.parse.urlsplit(address)
            if url.scheme or address.startswith("//") or name == "404.html":
                continue
            path = (
                (site / name).parent / urllib.parse.unquote(url.path) if url.path else site / name
            )
            path = Path(os.path.normpath(path))
            assert path.exists(), f"{name}: {address}"
            if url.fragment and path.suffix == ".html" and not url.fragment.startswith("__"):
                target = built[path.relative_to(site).as_posix()]
                assert urllib.parse.unquote(url.fragment) in target.ids, f"{name}: {address}"


def test_pages_link_code_and_switches(built):
    links = built["cl-clip.html"].links
    assert "source/clclip/detection/methods/clclip/gate.py.html" in links
    assert "config-reference.html#detection-gate_floor" in links
    assert any(
        a.startswith("source/clclip/detection/") for a in built["config-reference.html"].links
    )


def test_config_reference_has_every_key_with_its_own_words(built):
    page, text = built["config-reference.html"], reference.config_page()
    sections = [(anchor, model) for anchor, _, model, _ in reference.SECTIONS]
    for kind in KINDS.values():
        sections += [(kind.name, cls) for cls in reference.option_classes(kind)]
    for anchor, model in sections:
        for key, field in model.model_fields.items():
            assert f"{anchor}-{key}" in page.ids
            row = next(line for line in text.splitlines() if f'id="{anchor}-{key}"' in line)
            assert field.description, key
            assert field.description.replace("|", "\\|") in row, key


def test_config_reference_tells_types_limits_and_defaults():
    text = reference.config_page().replace("\N{NO-BREAK SPACE}", " ")
    assert "| integer, ≥ 1, ≤ 65536 | `8` | images per optimizer step |" in text
    assert "| `fail`, `clip`, `skip` | `fail` |" in text
    assert "| `detection`, `classification` | (needed) |" in text
    assert "list of text or null" not in text.split("`on_bad_box`")[0].split("`world`")[1]


@pytest.mark.parametrize("kind", KINDS)
def test_every_switch_is_read_by_code(kind):
    """``options.KEY``, ``self.options.KEY``, ``s.KEY``, or ``switches["KEY"]`` in the planner."""
    folders = (ROOT / "clclip" / kind, ROOT / "clclip" / "workflow")
    trees = [ast.parse(path.read_text()) for place in folders for path in place.rglob("*.py")]
    read = {key for tree in trees for node in ast.walk(tree) if (key := key_read(node))}
    assert set(reference.switch_keys(KINDS[kind])) <= read


def key_read(node: ast.AST) -> str | None:
    """Return the switch that a node reads, or None."""
    if not isinstance(node, ast.Attribute | ast.Subscript):
        return None
    holder = node.value
    name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
    if isinstance(node, ast.Attribute):
        return node.attr if name in ("options", "s") else None
    key = node.slice.value if isinstance(node.slice, ast.Constant) else None
    return key if name == "switches" else None


def test_command_reference_has_every_command(built):
    assert set(commands()) <= built["commands.html"].ids


@pytest.mark.parametrize("page", docs.pages(ROOT), ids=lambda page: page.name)
def test_links_lead_somewhere_as_files_too(page):
    """Whoever reads the pages in the repository follows them without the site."""
    text = docs.FENCE.sub("", page.read_text("utf-8"))
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        url = urllib.parse.urlsplit(address)
        if not url.scheme and url.path:
            assert (page.parent / url.path).exists(), f"{page.name}: {address}"


def test_reproduce_names_the_towers_that_the_files_ask_for():
    rows = [line for line in (ROOT / "docs/reproduce.md").read_text().splitlines() if "|" in line]
    asked = {stem: stream_file(stem).clip for stem in stream_files()}
    asked |= {name: variant.clip for name, variant in shared_variants().items()}
    for name, clip in asked.items():
        if clip.get("tag"):
            assert any(f"`{clip['model']}`, `{clip['tag']}`" in row for row in rows), name


def test_versions_are_told_alike():
    """In the package, the citation file and the newest entry of the changelog."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    assert citation["version"] == newest == clclip.__version__


@pytest.mark.parametrize("page", docs.pages(ROOT), ids=lambda page: page.name)
def test_files_and_experiments_named_on_a_page_exist(page):
    written = set(docs.files_to_write(page)) | {
        "mine.yaml",
        "cards.yaml",
        "fvit_lwf.py",
        "data.yaml",
    }
    for code in docs.INLINE.findall(docs.FENCE.sub("", page.read_text("utf-8"))):
        name = code.partition(":")[0]
        if (
            CODE_FILE.fullmatch(name)
            and not name.startswith("*")
            and Path(name).name not in written
        ):
            inside = [*ROOT.glob(name), *(ROOT / "clclip").rglob(name)]
            assert inside, f"{page.name} names {name}"
        if STREAM.fullmatch(code):
            known = [*known_names(), *streams()]
            assert fnmatch.filter(known, code), f"{page.name} names {code}"
