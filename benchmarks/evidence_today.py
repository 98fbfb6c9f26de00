"""Whether kept evidence is what today's code would make: stale rows, and code proved equal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import evidence_rows as rows
from evidence_rows import Entry, collect, kept, settled

from clclip.core.digest import digest
from clclip.core.errors import InputError
from clclip.core.files import read_json, write_text
from clclip.workflow.fingerprint import stage_fingerprint
from clclip.workflow.plan import plan_run

AGAIN = "the same numbers again, on a processor of the kind that made the kept ones"


def why_stale(entry: Entry) -> str | None:
    """Return what today's code would do otherwise, None if nothing."""
    try:
        plan = plan_run({"experiments": [entry.experiment], "seeds": [entry.seed]})
    except InputError as error:
        return f"no such experiment any more ({error.what})"
    tasks = [task.payload for task in plan.experiments[entry.experiment].tasks.values()]
    last = tasks[-1]
    today = {
        "data": last["data"]["id"],
        "settings": digest([settled(payload) for payload in tasks]),
        "training": stage_fingerprint("train", last["kind"], last["method"]),
    }
    other = [
        name
        for name, value in today.items()
        if value != (was := getattr(entry, name))
        and (name != "training" or same_code(value) != same_code(was))
    ]
    return f"other {' and '.join(other)} today" if other else None


def prove(folders: Sequence[Path]) -> None:
    """Record for which kept results today's code gives the same numbers again.

    Raises:
        InputError: if nothing is kept of a seed, or if a number differs.
    """
    known = equal_codes()
    commit = rows.git("rev-parse", "--short=10", "HEAD")
    for now in (entry for folder in folders for entry in collect(folder, commit)):
        found = kept(now.experiment, [now.seed])
        if not found:
            raise InputError("nothing is kept of it", now.path, "a kept seed, made again")
        for key in ("settings", "data", "scores", "forgetting"):
            if getattr(found[0], key) != getattr(now, key):
                raise InputError(f"other {key} than kept", now.path, AGAIN)
        other = [key for key, value in _numbers(found[0].summary) if now.summary.get(key) != value]
        if other:  # more keys than then are no other numbers
            what = f"other {', '.join(other)} than kept"
            raise InputError(what, now.path, AGAIN)
        for key in ("training", "shared"):
            pair = sorted({getattr(found[0], key), getattr(now, key)})
            if len(pair) == 2 and pair not in [row["codes"] for row in known]:
                cell = f"{now.experiment} seed {now.seed}"
                known.append({"codes": pair, "shown by": cell, "commit": commit})
        print(f"{now.experiment}, seed {now.seed}: the same numbers again")
    rows.EVIDENCE.mkdir(parents=True, exist_ok=True)
    write_text(rows.EVIDENCE / "equal.json", json.dumps(known, indent=1) + "\n")


def _numbers(summary: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return a summary without the versions of the packages that made it."""
    return [(key, value) for key, value in summary.items() if key != "versions"]


def equal_codes() -> list[dict[str, Any]]:
    """Return the pairs of fingerprints that ``prove`` found to give the same numbers."""
    path = rows.EVIDENCE / "equal.json"
    return read_json(path) if path.exists() else []


def same_code(fingerprint: str) -> str:
    """Return one name for all versions of the code that are known to give the same numbers."""
    group, grown = {fingerprint}, True
    while grown:
        more = {c for row in equal_codes() if group & set(row["codes"]) for c in row["codes"]}
        grown, group = not more <= group, group | more
    return min(group)
