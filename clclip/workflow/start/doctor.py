"""``clclip doctor``: is this machine fit for a run? One line a question, and what to do where not.

Nothing is changed and nothing is sent: of the network it is only asked whether a connection opens.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from clclip.config.yaml_files import project_folder
from clclip.core.errors import InputError
from clclip.core.files import check_writable
from clclip.core.homes import hub_home, writable
from clclip.workflow.host import GPU_DEVICES, has_accelerator

State = Literal["ok", "note", "bad"]
HUB = "https://huggingface.co"
DISK_GB, MEMORY_GB = 5, 4  # what the default run needs with room to spare
TIMEOUT = 3.0  # seconds


@dataclass(frozen=True)
class Finding:
    """The answer to one question.

    Attributes:
        subject: what was looked at.
        state: ok; note (a run works, something else may not); bad (a run will fail).
        value: what it is.
        advice: what to do, if it is not ok.
    """

    subject: str
    state: State
    value: str
    advice: str = ""

    def __str__(self) -> str:
        mark = {"ok": "ok  ", "note": "note", "bad": "BAD "}[self.state]
        return (
            f"{mark}  {self.subject:<12}  {self.value}{' -> ' if self.advice else ''}{self.advice}"
        )

    def as_dict(self) -> dict[str, str]:
        """Return the finding as ``--json`` prints it."""
        return {
            "subject": self.subject,
            "state": self.state,
            "found": self.value,
            "advice": self.advice,
        }


def examine(folder: Path, network: bool = True) -> list[Finding]:
    """Return the findings about this machine and a working directory.

    Args:
        folder: where runs would write.
        network: whether to try a connection.
    """
    questions: list[Callable[[], Finding]] = [
        _system,
        _python,
        *(lambda name=name: _version(name) for name in ("torch", "torchvision", "open_clip_torch")),
        lambda: _version("snakemake"),
        _workflow,
        _gpu,
        lambda: _folder(folder),
        lambda: _disk(folder),
        _memory,
        _cache,
        _temporary,
        _locale,
        _display,
        _bytecode,
        *([_network] if network else []),
    ]
    return [ask() for ask in questions]


def _system() -> Finding:
    name = f"{platform.system()} {platform.release()}, {os.cpu_count()} CPU cores"
    if sys.platform in ("linux", "darwin"):
        return Finding("system", "ok", name)
    return Finding("system", "bad", name, "Linux or macOS; on Windows WSL 2")


def _python() -> Finding:
    version = f"{platform.python_version()} at {sys.executable}"
    wanted = metadata.metadata("clclip")["Requires-Python"] if _installed() else ""
    if not wanted or _within(platform.python_version(), wanted):
        return Finding("Python", "ok", version)
    return Finding("Python", "bad", version, f"a Python {wanted}")


def _installed() -> bool:
    try:
        return bool(metadata.version("clclip"))
    except metadata.PackageNotFoundError:
        return False


def _within(version: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)


def _needed() -> dict[str, str]:
    """Return the ranges of versions that the package asks for, by name."""
    from packaging.requirements import Requirement

    lines = metadata.requires("clclip") if _installed() else None
    requirements = map(Requirement, lines or ())
    return {needed.name: str(needed.specifier) for needed in requirements}


def _version(name: str) -> Finding:
    """Tell of one package: there, in its range, and in step with its neighbour."""
    wanted = _needed().get(name, "")
    repair = f"pip install '{name}{wanted}'"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "bad", "not installed", repair)
    if wanted and not _within(version, wanted):
        return Finding(name, "bad", f"{version}, outside {wanted}", repair)
    if name == "torchvision" and (torch := _pair(version)):
        advice = "both from the same index: pip install --force-reinstall torch torchvision"
        return Finding(name, "bad", f"{version} beside {torch}", advice)
    return Finding(name, "ok", version)


def _pair(version: str) -> str | None:
    """Return which torch lies beside a torchvision that was built for another; None if it fits.

    A build for CPUs beside one for GPUs loads, and then misses ``torchvision::nms``.
    """
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return "no torch"
    builds = {text.partition("+")[2] for text in (version, torch)}
    return f"torch {torch}" if len(builds) > 1 and "cpu" in builds else None


def _workflow() -> Finding:
    file = project_folder() / "workflow" / "Snakefile"
    if file.is_file():
        return Finding("workflow", "ok", str(file))
    return Finding("workflow", "bad", f"no {file}", "pip install --force-reinstall clclip")


def _gpu() -> Finding:
    if not has_accelerator():
        devices = " ".join(GPU_DEVICES)
        advice = f"fine for the embedded benchmark; a GPU shows as one of {devices}"
        return Finding("GPU", "note", "none: runs use the CPU", advice)
    try:
        import torch

        if torch.cuda.is_available():
            names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
            return Finding("GPU", "ok", ", ".join(names))
        reason = f"torch {torch.__version__} sees none"
    except Exception as error:  # a broken build may raise anything
        reason = f"torch does not load ({type(error).__name__}: {str(error)[:80]})"
    advice = "a torch built for this driver: `nvidia-smi`, then pytorch.org's install line"
    return Finding("GPU", "bad", f"a device is there, {reason}", advice)


def _folder(folder: Path) -> Finding:
    try:
        check_writable(folder, folder=True)
    except InputError as error:
        return Finding("folder", "bad", f"{folder}: {error.what}", "run in a folder of your own")
    return Finding("folder", "ok", f"{folder} can be written")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    if free >= DISK_GB:
        return Finding("disk", "ok", f"{free:.0f} GB free here")
    advice = "make room, or run elsewhere; `clclip cache list` shows what runs keep"
    return Finding("disk", "note" if free >= 1 else "bad", f"{free:.1f} GB free here", advice)


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError):
        return Finding("memory", "note", "cannot be told", "4 GB are enough")
    if total >= MEMORY_GB:
        return Finding("memory", "ok", f"{total:.0f} GB")
    advice = "one job at a time: clclip run ... -- --cores 1"
    return Finding("memory", "note", f"{total:.1f} GB", advice)


def _cache() -> Finding:
    try:
        home = writable(hub_home(), "downloads")
    except InputError as error:
        return Finding("downloads", "note", error.what, f"set {error.expected}")
    return Finding("downloads", "ok", f"kept in {home}")


def _temporary() -> Finding:
    import tempfile

    try:
        place = tempfile.gettempdir()
    except OSError as error:
        return Finding("temporary", "bad", str(error), "set TMPDIR to a folder that can be written")
    return Finding("temporary", "ok", place)


def _locale() -> Finding:
    encoding = sys.getfilesystemencoding()
    terminal = getattr(sys.stdout, "encoding", None) or "none"
    encodings = f"files {encoding}, terminal {terminal}"
    if encoding == "utf-8" and terminal.lower().replace("-", "") in ("utf8", "none"):
        return Finding("locale", "ok", encodings)
    return Finding("locale", "note", encodings, "export LC_ALL=C.UTF-8, to see all characters")


def _display() -> Finding:
    """Tell of matplotlib: figures are written to files, so that no display is needed."""
    backend = os.environ.get("MPLBACKEND", "")
    shown = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    display = f"{'a' if shown else 'no'} display{f', MPLBACKEND={backend}' if backend else ''}"
    return Finding("figures", "ok", f"{display}; the report needs none")


def _bytecode() -> Finding:
    if "PYTHONDONTWRITEBYTECODE" not in os.environ:
        return Finding("bytecode", "ok", "cached")
    advice = "unset PYTHONDONTWRITEBYTECODE: torch starts three times as fast (runs unset it)"
    return Finding("bytecode", "note", "not cached", advice)


def _network() -> Finding:
    """Tell whether weights could be downloaded: by the proxy that is set, or directly."""
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    hub = os.environ.get("HF_ENDPOINT") or HUB
    target = urllib.parse.urlsplit(proxy if proxy and "//" in proxy else hub)
    name = f"{'the proxy ' if proxy else ''}{target.hostname}"
    answers: list[str] = []
    # a thread, because looking up a name has no time limit of its own
    asking = threading.Thread(target=lambda: answers.append(_connect(target)), daemon=True)
    asking.start()
    asking.join(2 * TIMEOUT)
    problem = answers[0] if answers else f"no answer within {2 * TIMEOUT:g} s"
    if not problem:
        return Finding("network", "ok", f"{name} answers")
    advice = "only for downloads: give weights as clip.file, or set HTTPS_PROXY or HF_ENDPOINT"
    return Finding("network", "note", f"{name} cannot be reached ({problem})", advice)


def _connect(target: urllib.parse.SplitResult) -> str:
    """Open a connection and close it; return what went wrong, or ""."""
    try:
        port = target.port or (443 if target.scheme == "https" else 80)
        socket.create_connection((str(target.hostname), port), timeout=TIMEOUT).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def report(findings: list[Finding]) -> Iterator[str]:
    """Yield a line a finding, and what they come to."""
    yield from map(str, findings)
    bad = sum(finding.state == "bad" for finding in findings)
    yield f"{bad} to mend" if bad else "a run can start: clclip run --smoke"
