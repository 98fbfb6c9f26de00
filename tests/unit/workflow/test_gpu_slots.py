"""Jobs on one host take different devices; locks end with their process."""

import json
import os
import subprocess
import sys
import time

import pytest

from clclip.core.errors import InputError
from clclip.workflow import gpu_slots as slots
from clclip.workflow.gpu_slots import devices, host_devices, slot_devices

JOB = """
import json, os, sys, time
from pathlib import Path
from clclip.workflow.gpu_slots import devices
with devices(folder=Path(sys.argv[1])) as names:
    print(json.dumps([names, os.environ["CUDA_VISIBLE_DEVICES"], "torch" in sys.modules]))
    sys.stdout.flush()
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "CLCLIP_SLOTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(slots, "POLL_SECONDS", 0.05)


def job(folder, seconds):
    command = [sys.executable, "-c", JOB, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_jobs_take_two_devices_and_the_third_waits_for_one_to_end(tmp_path, monkeypatch):
    monkeypatch.setenv("CLCLIP_SLOTS", "2")
    jobs = [job(tmp_path, 600), job(tmp_path, 600)]
    try:
        told = [json.loads(running.stdout.readline()) for running in jobs]
        assert sorted(names for names, _, _ in told) == [["0"], ["1"]]
        assert all(names == [variable] for names, variable, _ in told)
        assert not any(has_torch for _, _, has_torch in told)
        third = job(tmp_path, 0)
        time.sleep(0.7)
        assert third.poll() is None  # it waits
        jobs[0].kill()  # no chance to release anything
        names, _, _ = json.loads(third.stdout.readline())
        assert names == told[0][0]
        assert third.wait(timeout=20) == 0
    finally:
        for running in jobs:
            running.kill()
            running.wait()


def test_the_scheduler_and_the_user_decide_before_us(monkeypatch, tmp_path):
    monkeypatch.setenv("CLCLIP_SLOTS", "2")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with devices(folder=tmp_path) as names:
        assert names == [] and os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.delenv("CLCLIP_SLOTS")
    assert slot_devices() == []  # one device: nothing to choose
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    with devices(folder=tmp_path) as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")  # as another process sees it
        with devices(folder=tmp_path) as second:
            assert (first, second) == (["2"], ["5"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"
    with devices(2, folder=tmp_path) as both:
        assert both == ["2", "5"] and os.environ["CUDA_VISIBLE_DEVICES"] == "2,5"


def test_more_slots_than_devices_share_them(monkeypatch):
    monkeypatch.setattr(slots, "host_devices", lambda: 2)
    assert slot_devices() == ["0", "1"]
    monkeypatch.setenv("CLCLIP_SLOTS", "4")
    assert slot_devices() == ["0", "1", "0", "1"]


def test_devices_are_counted_by_their_files(tmp_path):
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "sda"):
        (tmp_path / name).touch()
    assert host_devices(tmp_path) == 2


@pytest.mark.parametrize("value", ["0", "two", "-1", ""])
def test_a_number_of_slots_is_a_number(monkeypatch, value):
    monkeypatch.setenv("CLCLIP_SLOTS", value)
    with pytest.raises(InputError, match="CLCLIP_SLOTS, expected a number from 1"):
        slot_devices()


def test_more_devices_than_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with (
        pytest.raises(InputError, match="3 devices, but this host offers 2"),
        devices(3, folder=tmp_path),
    ):
        pass


def test_without_devices_nothing_is_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(slots, "host_devices", lambda: 0)
    with devices(folder=tmp_path) as names:
        assert names == [] and "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not list(tmp_path.iterdir())
