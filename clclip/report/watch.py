"""A running workflow on the terminal, read from its files alone (``clclip watch``).

Nothing asks Snakemake: task.json says which tasks there are, the files beside it which stages are
done, the logs what the running ones do and how long finished ones took. So it works on a cluster's
shared folder too, for any number of readers.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.model.kinds import KINDS
from clclip.report.sections.timing import duration, last_done

STAGES = ("split", "train", "predict", "score")
OUTPUTS = {"split": "test.json", "train": "weights.safetensors", "predict": "predictions.json"}
OUTPUTS |= {"score": "scores.json"}
STEP = re.compile(r"step (\d+)/(\d+)(?: loss=(\S+))?.*? eta=([\d.]+)s")
COUNT = re.compile(r"(?:predicted|features of) (\d+)(?: of |/)(\d+) images")
FAULT = re.compile(r"ERROR [\w.]+: (?:bad input: |error: )?(.*)")
QUIET_SECONDS = 300.0
TAIL = 8192
BAR = 20


@dataclass(frozen=True)
class Running:
    """A stage that has begun and not ended.

    Attributes:
        stage: its name.
        share: done part in [0, 1], None if the log does not say.
        detail: step, loss and so on, in words.
        left: seconds left as the log says, None if it does not.
        fault: what ended it, empty if nothing did.
        quiet: seconds since the log's last line.
    """

    stage: str
    share: float | None = None
    detail: str = ""
    left: float | None = None
    fault: str = ""
    quiet: float = 0.0


@dataclass(frozen=True)
class Task:
    """One task: which stages are done, what runs, and what came out."""

    experiment: str
    seed: int
    number: int
    metric: str
    done: tuple[str, ...]
    running: Running | None
    score: float | None

    @property
    def finished(self) -> bool:
        """Whether all stages are done."""
        return len(self.done) == len(STAGES)


def watch(results: Path, once: bool, every: float, write: Callable[[str], None]) -> None:
    """Print the state of a workflow until it has ended.

    Args:
        results: the folder ``results``.
        once: print once only.
        every: seconds between two looks.
        write: called with each text.

    Raises:
        InputError: if there is no task (unless the folder may still fill), or ``every`` is no time.
    """
    if not every > 0:
        raise InputError(f"got {every}", "--every", "seconds above 0")
    terminal = sys.stdout.isatty()
    try:
        while True:
            tasks = read_tasks(results)
            shared = read_shared(results.parent / "resources")
            if once and not tasks and not shared:
                raise InputError("no task", results, "the folder `results` of a workflow")
            width = shutil.get_terminal_size((100, 24)).columns
            text = as_text(tasks, shared, seconds_left(tasks, results), width)
            write(("\x1b[H\x1b[2J" if terminal and not once else "") + text)
            if once or ended(tasks, results):
                return
            time.sleep(every)
    except KeyboardInterrupt:
        return


def read_tasks(results: Path) -> list[Task]:
    """Return every task that has a task.json, by experiment, seed and number."""
    tasks = []
    for path in results.glob("*/seed*/task*/task.json"):
        try:
            plan = read_json(path)
            number, seed, kind = plan["task"], plan["seed"], plan["kind"]
        except (InputError, KeyError, TypeError):
            continue
        folder = path.parent
        if folder.name in _taken_over(folder.parent):
            continue
        done = [stage for stage in STAGES if (folder / OUTPUTS[stage]).exists()]
        metric = KINDS[kind].score.format("A")
        tasks.append(
            Task(
                folder.parent.parent.name,
                seed,
                number,
                metric,
                tuple(done),
                running_stage(folder, done),
                _score(folder / "scores.json"),
            )
        )
    return sorted(tasks, key=lambda task: (task.experiment, task.seed, task.number))


def _taken_over(seed: Path) -> list[str]:
    """Return the folders of tasks that a model brought, which no job of this run makes."""
    try:
        return list(read_json(seed / "start.json")["parts"])
    except (InputError, KeyError, TypeError):
        return []


def _score(path: Path) -> float | None:
    """Return a finished task's score on all classes."""
    try:
        return read_json(path)["metrics"]["A"]
    except (InputError, KeyError, TypeError):
        return None


def running_stage(folder: Path, done: Sequence[str]) -> Running | None:
    """Return the first stage that has a log without an end and no output yet."""
    for stage in STAGES:
        if stage not in done:
            return read_log(folder / "logs" / f"{stage}.log", stage)
    return None


def read_shared(resources: Path) -> list[tuple[str, Running]]:
    """Return what is being made for several tasks: data, text embeddings, features."""
    rows = []
    for log in sorted(resources.rglob("*.log")) if resources.is_dir() else []:
        running = read_log(log, "")
        if running is not None and (running.fault or running.quiet < QUIET_SECONDS):
            rows.append((str(log.relative_to(resources).with_suffix("")), running))
    return rows


def read_log(log: Path, stage: str) -> Running | None:
    """Return what a log says of a stage; None if it has not begun or has ended well."""
    if last_done(log) is not None:
        return None
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - TAIL))
            text = handle.read().decode("utf-8", "replace")
        quiet = max(0.0, time.time() - log.stat().st_mtime)
    except OSError:
        return None
    faults = FAULT.findall(text)
    if faults:
        return Running(stage, fault=faults[-1].strip(), quiet=quiet)
    steps, counts = STEP.findall(text), COUNT.findall(text)
    if steps:
        at, total, loss, left = steps[-1]
        share = int(at) / max(int(total), 1)
        detail = f"step {at}/{total}" + (f"  loss {loss}" if loss else "")
        return Running(stage, share, detail, float(left), quiet=quiet)
    if counts:
        at, total = counts[-1]
        share = int(at) / max(int(total), 1)
        return Running(stage, share, f"{at} of {total} images", quiet=quiet)
    return Running(stage, quiet=quiet)


def seconds_left(tasks: Sequence[Task], results: Path) -> float | None:
    """Return the time to the end if as many jobs run on as now; None before anything is known.

    A stage that has not ended takes as long as it took on average in the same experiment, or
    elsewhere if it has not ended there yet.
    """
    known: dict[tuple[str, str], list[float]] = {}
    for task in tasks:
        folder = results / task.experiment / f"seed{task.seed}" / f"task{task.number}"
        for stage in task.done:
            line = last_done(folder / "logs" / f"{stage}.log")
            if line is not None:
                known.setdefault((task.experiment, stage), []).append(line[1])
                known.setdefault(("", stage), []).append(line[1])
    total, jobs = 0.0, 0
    for task in tasks:
        now = task.running
        jobs += now is not None and not now.fault and now.quiet < QUIET_SECONDS
        for stage in STAGES[len(task.done) :]:
            if now is not None and now.stage == stage and now.left is not None:
                total += now.left
                continue
            times = known.get((task.experiment, stage)) or known.get(("", stage))
            if times is None:
                return None
            part = now.share if now is not None and now.stage == stage and now.share else 0.0
            total += mean(times) * (1 - part)
    return total / max(jobs, 1)


def ended(tasks: Sequence[Task], results: Path) -> bool:
    """Whether every task is scored and the report is newer than all scores."""
    page = results / "report.html"
    if not tasks or not all(task.finished for task in tasks) or not page.exists():
        return False
    scores = results.glob("*/seed*/task*/scores.json")
    return page.stat().st_mtime >= max(path.stat().st_mtime for path in scores)


def as_text(
    tasks: Sequence[Task],
    shared: Sequence[tuple[str, Running]],
    left: float | None,
    width: int = 100,
) -> str:
    """Return the state as lines of at most ``width`` characters."""
    if not tasks and not shared:
        return f"{time.strftime('%H:%M:%S')}  no task yet"
    finished = sum(task.finished for task in tasks)
    moving = [task.running for task in tasks] + [running for _, running in shared]
    active = [r for r in moving if r is not None and not r.fault and r.quiet < QUIET_SECONDS]
    failed = sum(r is not None and bool(r.fault) for r in moving)
    head = f"{time.strftime('%H:%M:%S')}  {finished} of {len(tasks)} tasks done"
    head += f", {len(active)} running" + (f", {failed} failed" if failed else "")
    if left is not None and finished < len(tasks):
        head += f", about {duration(left)} left"
    lines = [head, ""]
    lines += [f"{name}  {_state(running)}" for name, running in shared]
    names = max((len(task.experiment) for task in tasks), default=0)
    before = None
    for task in tasks:
        owner = (task.experiment, task.seed)
        name = task.experiment if owner != before else ""
        seed = f"seed {task.seed}" if owner != before else ""
        before = owner
        lines.append(f"{name:<{names}}  {seed:<7}  task {task.number:<2}  {_progress_text(task)}")
    return "\n".join(line[: max(width, 20)].rstrip() for line in lines)


def _progress_text(task: Task) -> str:
    """Return a task's state in words."""
    if task.finished:
        score = "" if task.score is None else f"  {task.metric} {task.score:.1f}"
        return f"done{score}"
    if task.running is not None:
        return _state(task.running)
    return "waiting" if not task.done else f"waiting for {STAGES[len(task.done)]}"


def _state(running: Running) -> str:
    """Return what a running stage does."""
    stage = f"{running.stage:<7} " if running.stage else ""
    if running.fault:
        return f"{stage}FAILED  {running.fault}"
    bar = ""
    if running.share is not None:
        full = round(BAR * min(running.share, 1.0))
        bar = f"[{'#' * full}{'.' * (BAR - full)}] {running.share:4.0%}  "
    eta = "" if running.left is None else f"  {duration(running.left)} left"
    quiet = f"  (silent for {duration(running.quiet)})" if running.quiet >= QUIET_SECONDS else ""
    return f"{stage}{bar}{running.detail or 'running'}{eta}{quiet}"
