"""The memory of a process in MiB, whatever unit its system counts in."""

from __future__ import annotations

import resource
from types import SimpleNamespace

import pytest

from clclip.core import machine


@pytest.mark.parametrize(("platform", "counted"), [("linux", 300 * 2**10), ("darwin", 300 * 2**20)])
def test_peak_is_in_mib_on_linux_and_macos(monkeypatch, platform, counted):
    monkeypatch.setattr(machine.sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=counted))
    assert machine.peak_process_mib() == 300
