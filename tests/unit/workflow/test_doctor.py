"""`clclip doctor`: each question with a machine on which the answer is another."""

import json
import os
import socket
from importlib import metadata
from types import SimpleNamespace

import pytest

from clclip.cli.main import main
from clclip.workflow.start import doctor


def answers(folder, network=False):
    return {finding.subject: finding for finding in doctor.examine(folder, network)}


def test_this_machine_can_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["doctor", "--offline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "a run can start: clclip run --smoke"
    told = answers(tmp_path)
    assert len(lines) == len(told) + 1 and not os.listdir(tmp_path)
    assert told["torch"].value == metadata.version("torch") and told["torch"].state == "ok"
    assert all(bool(f.advice) == (f.state != "ok") for f in told.values())


def versions(**changed):
    real = metadata.version

    def version(name):
        if name in changed and changed[name] is None:
            raise metadata.PackageNotFoundError(name)
        return changed.get(name) or real(name)

    return version


def read_only(monkeypatch):
    from clclip.core.errors import InputError

    def refuse(path, folder):
        raise InputError("cannot be written (Read-only file system)", path, "a folder")

    monkeypatch.setattr(doctor, "check_writable", refuse)


def full(free):
    usage = SimpleNamespace(free=free)
    return lambda monkeypatch: monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage)


def installed(**changed):
    return lambda monkeypatch: monkeypatch.setattr(metadata, "version", versions(**changed))


def variable(name, value):
    return lambda monkeypatch: monkeypatch.setenv(name, value)


MACHINES = {
    "old torch": ("torch", installed(torch="1.13.1"), "bad", "1.13.1, outside", "pip install"),
    "no snakemake": ("snakemake", installed(snakemake=None), "bad", "not installed", "pip install"),
    "torch for CPUs alone": (
        "torchvision",
        installed(torch="2.12.1+cpu"),
        "bad",
        "beside torch 2.12.1+cpu",
        "same index",
    ),
    "folder": ("folder", read_only, "bad", "cannot be written", "folder of your own"),
    "full disk": ("disk", full(2e8), "bad", "0.2 GB free", "make room"),
    "nearly full disk": ("disk", full(2e9), "note", "2.0 GB free", "make room"),
    "bytecode": ("bytecode", variable("PYTHONDONTWRITEBYTECODE", "1"), "note", "not", "unset"),
    "hub": ("downloads", variable("HF_HOME", "/proc/none"), "note", "downloads", "set HF_HOME="),
    "Windows": (
        "system",
        lambda monkeypatch: monkeypatch.setattr(doctor.sys, "platform", "win32"),
        "bad",
        "CPU cores",
        "WSL 2",
    ),
    "GPU that torch does not see": (
        "GPU",
        lambda monkeypatch: monkeypatch.setattr(doctor, "has_accelerator", lambda: True),
        "bad",
        "a device is there",
        "nvidia-smi",
    ),
}


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_wrong_is_told_with_what_to_do(monkeypatch, tmp_path, machine):
    subject, spoil, state, found, advice = MACHINES[machine]
    if machine.startswith("GPU"):
        torch = pytest.importorskip("torch")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    spoil(monkeypatch)
    told = answers(tmp_path)[subject]
    assert (told.state, found in told.value, advice in told.advice) == (state, True, True), told


def test_a_machine_that_cannot_run_ends_with_status_2(monkeypatch, capsys):
    read_only(monkeypatch)
    assert main(["doctor", "--offline", "--json"]) == 2
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert all(set(row) == {"subject", "state", "found", "advice"} for row in rows)
    states = {row["subject"]: row["state"] for row in rows}
    assert states["folder"] == "bad" and said.err.startswith("error: folder: ")


def test_the_network_is_asked_for_a_connection_and_no_more(monkeypatch, tmp_path):
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        assert answers(tmp_path, network=True)["network"].state == "ok"
        peer, _ = server.accept()
        assert peer.recv(100) == b""
        peer.close()
    told = answers(tmp_path, network=True)["network"]
    assert told.state == "note" and "cannot be reached" in told.value
    monkeypatch.setattr(doctor, "examine", lambda folder, network: [told])
    assert main(["doctor"]) == 0  # no network is no hindrance
