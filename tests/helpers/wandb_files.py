"""Reads back what wandb wrote offline."""

from __future__ import annotations

import json
import struct
import time


def records(data):
    """Yield the records of a .wandb file: LevelDB's log format, 32 KiB blocks of fragments."""
    place, whole = 7, b""  # after the file's own mark
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:  # the rest of a block is padding
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a full record, or its last fragment
            yield whole
            whole = b""


def logs(folder, patience=30.0):
    """Return the .wandb files below a folder, the oldest first: one per start of a run.

    wandb's own process may still be writing when a run has been finished: wait for its last word.
    """
    found = {path.resolve() for path in folder.rglob("*.wandb")}
    end = time.monotonic() + patience
    while not all(any(kind == "exit" for kind, _ in read(path)) for path in found):
        assert time.monotonic() < end, "a run without an end"
        time.sleep(0.1)
    return sorted(found)


def read(path):
    """Yield (type, record) of a .wandb file."""
    from wandb.proto import wandb_internal_pb2

    for data in records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        yield kind, getattr(record, kind) if kind else None


def plain(items):
    """Return logged items as nested dicts."""
    found = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return found


def history(folder):
    """Return the rows that all starts below a folder logged."""
    return [plain(r.item) for path in logs(folder) for kind, r in read(path) if kind == "history"]
