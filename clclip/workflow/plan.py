"""From the configuration to the plan: experiments x seeds x tasks, each task as one canonical JSON.

Torch-free. The slice of task t holds what decides its output and nothing else: not the experiment's
name, not later tasks nor their number, nothing of the report. So a change to task 3 leaves tasks 1
and 2 as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from clclip.clip.architecture import dense_mode, taps
from clclip.clip.own.model_config import Missing
from clclip.config.experiment import Experiment
from clclip.config.load import Source, find_experiment, merged, read_experiment
from clclip.config.resolve import (
    check_own_options,
    check_per_task,
    resolve_options,
    resolve_training,
)
from clclip.config.run import RunConfig
from clclip.config.start import Start, check_new, check_same, read_start
from clclip.config.streams import stream
from clclip.core.artifacts import ClipSource, Task
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.core.models import parse
from clclip.core.task import RUNTIME_KEYS, text_names
from clclip.model.kinds import KINDS
from clclip.workflow.clip_checks import check_size, checked_clip
from clclip.workflow.data_spec import (
    check_places,
    class_groups,
    data_root,
    data_spec,
    declared_classes,
    fractions,
    shown_name,
    unfit_classes,
)
from clclip.workflow.image_store import image_store, own_texts

FACTS = Path("resources/data/.facts")  # what the plans of a working directory have read of files


@dataclass(frozen=True)
class TaskPlan:
    """One task of one seed of one experiment."""

    experiment: str
    seed: int
    number: int
    payload: Task
    text: str | None = None  # id of its text embeddings, if the kind uses them
    features: str | None = None  # id of its feature store, if it reads one
    devices: int = 1  # processes per node; not in task.json, like nodes: they decide no result
    nodes: int = 1

    def store(self, split: str) -> str | None:
        """Return the feature store that its stage of a split reads, below resources/features."""
        if self.features is None:
            return None
        method = KINDS[self.payload["kind"]].methods[self.payload["method"]]
        return f"{self.features}/{split if method.reads_training else 'test'}"

    @property
    def json(self) -> str:
        """Its task.json."""
        return canonical(self.payload)

    @property
    def folder(self) -> str:
        """Its folder, relative to the working directory."""
        return f"results/{self.experiment}/seed{self.seed}/task{self.number}"


@dataclass(frozen=True)
class ExperimentPlan:
    """One experiment: its tasks by (seed, task number)."""

    name: str
    config: Experiment
    dataset: str
    seeds: tuple[int, ...]
    tasks: dict[tuple[int, int], TaskPlan]
    start: Start | None = None  # the model that they go on from

    @property
    def numbers(self) -> range:
        """The task numbers of a seed; those of the model that it starts from are not among them."""
        first = 1 + (self.start.count if self.start else 0)
        return range(first, first + self.length)

    @property
    def protocol_option(self) -> str:
        """The option that tells ``clclip aggregate`` the stream; empty if there is none."""
        name = self.config.stream_name
        return f"--protocol {stream(name).name}" if name else ""

    @property
    def length(self) -> int:
        """Number of tasks of a seed; one where all classes are trained at once."""
        return len(self.tasks) // len(self.seeds)


@dataclass
class RunPlan:
    """All that a run makes. The stores map an id to the canonical description of what it names."""

    experiments: dict[str, ExperimentPlan] = field(default_factory=dict)
    data: dict[str, dict[str, Any]] = field(default_factory=dict)
    clips: dict[str, ClipSource] = field(default_factory=dict)
    texts: dict[str, dict[str, Any]] = field(default_factory=dict)
    features: dict[str, dict[str, Any]] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    wandb: str = "off"

    def task(self, experiment: str, seed: int | str, number: int | str) -> TaskPlan:
        """Return one task."""
        return self.experiments[experiment].tasks[int(seed), int(number)]


def plan_run(
    config: Mapping[str, Any],
    folders: Sequence[Path] = (),
    cache: Path | None = None,
    job: bool = False,
) -> RunPlan:
    """Plan a run.

    Args:
        config: the merged ``config/config.yaml``.
        folders: where relative experiment files and ``data_root`` are looked for, in order.
        cache: folder for facts of large annotation files, so that they are read once, and of the
            CLIPs that come from files or from a hub.
        job: whether a job of a planned run asks: what its plan wrote there of CLIPs then stands.

    Raises:
        InputError: if anything in the configuration or the data's declaration is wrong.
    """
    run = parse(RunConfig, dict(config), "config")
    folders = list(folders) or [Path.cwd()]
    root = data_root(run.data_root, folders)
    plan = RunPlan(report=run.report.model_dump(mode="json"), wandb=run.wandb)
    sources: dict[str, Source] = {}
    for entry in run.experiments:
        source = find_experiment(entry, folders)
        experiment, folder = read_experiment(source)
        name = str(experiment.name)
        if name in sources:
            what = f"experiment {name!r} is given twice ({sources[name]} and {source})"
            raise InputError(what, "experiments", "each name once")
        sources[name] = source
        seeds = run.seeds if run.seeds is not None else experiment.seeds
        add_experiment(plan, experiment, seeds, root or folder, source, cache, job=job)
    return plan


def add_as_planned(
    plan: RunPlan,
    experiment: Experiment,
    seeds: Sequence[int],
    base: Path,
    where: object,
    present: bool = True,
) -> ExperimentPlan:
    """Add an experiment as a run in the working directory would plan it, and write nothing.

    A CLIP whose files are gone is then the one of an earlier plan.
    """
    try:
        return add_experiment(plan, experiment, seeds, base, where, present=present)
    except Missing:
        if not FACTS.is_dir():
            raise
        return add_experiment(plan, experiment, seeds, base, where, FACTS, present)


def add_experiment(
    plan: RunPlan,
    experiment: Experiment,
    seeds: Sequence[int],
    base: Path,
    where: object,
    cache: Path | None = None,
    present: bool = True,
    job: bool = False,
) -> ExperimentPlan:
    """Add an experiment to the plan.

    Args:
        plan: receives the experiment and the stores it needs.
        experiment: its file, name filled in.
        seeds: its seeds.
        base: folder that relative data paths start from.
        where: its file, for messages.
        cache: folder for facts of large annotation files.
        present: whether the data must be there; ``describe`` plans without.
        job: as in ``plan_run``.
    """
    check_own_options(experiment, str(where))
    spec = data_spec(experiment, base, where, cache, present)
    missing = spec["id"].endswith("-missing")
    declared = None if missing else declared_classes(spec, where, cache)
    unfit = {} if missing else unfit_classes(spec, cache)
    start = None if experiment.start is None else read_start(experiment.start, where)
    clip = checked_clip(experiment.clip, start, cache, job, where)
    plan.data[spec["id"]], plan.clips[clip["id"]] = spec, clip
    tasks: dict[tuple[int, int], TaskPlan] = {}
    at_once = KINDS[experiment.kind].methods[experiment.method].trains == "all"
    for seed in seeds:
        groups, text = class_groups(experiment, seed, declared, unfit, where)
        count = 1 if at_once else len(groups)
        before = 0
        if start is not None:
            check_new(start, groups, where)
            groups, before = start.groups + groups, start.count
            text = start.plan["text"] | text
        _check_numbers(experiment, before, count, len(groups), where)
        if experiment.data.image_rule == "place":
            check_places(spec, count, where)
        for number in range(before + 1, before + count + 1):
            upto = groups if at_once else groups[:number]
            payload = _payload(experiment, seed, number, upto, text, spec, clip, where)
            if start is not None:
                start.mark(payload)
            tasks[seed, number] = _with_stores(plan, experiment, payload, clip, where)
            if start is not None:
                check_same(start, payload, where)
                start.lend_text(plan.texts, tasks[seed, number].text)
    planned = ExperimentPlan(
        str(experiment.name), experiment, shown_name(spec), tuple(seeds), tasks, start
    )
    plan.experiments[planned.name] = planned
    return planned


def _check_numbers(
    experiment: Experiment, before: int, count: int, groups: int, where: object
) -> None:
    """Check what an experiment says by task number, of tasks ``before`` + 1 to + ``count``."""
    for number in sorted(experiment.per_task):
        if not before < number <= before + count:
            known = f"tasks {before + 1}..{before + count} of this stream"
            raise InputError(f"got task {number}", f"{where}: per_task", known)
    check_per_task(experiment, range(before + 1, before + count + 1), where)
    shares = experiment.data.fractions
    if shares is not None and len(shares) != groups:
        place = f"{where}: data.fractions"
        raise InputError(f"{len(shares)} fractions", place, f"{groups}, one a task")


def _payload(
    experiment: Experiment,
    seed: int,
    number: int,
    groups: list[list[str]],
    text: dict[str, str],
    spec: dict[str, Any],
    clip: ClipSource,
    where: object,
) -> Task:
    """Return task.json as a value, without the entry of the feature store."""
    override = experiment.per_task.get(number)
    place = f"{where}: per_task.{number}" if override else str(where)
    training = merged(dict(experiment.training), override.training if override else {})
    switches = merged(dict(experiment.switches), override.switches if override else {})
    seen = {name for group in groups for name in group}
    kind = KINDS[experiment.kind]
    resolved = resolve_training(experiment.kind, training, place)
    check_size(resolved["image_size"] or kind.side(clip), clip, place)
    method = kind.methods[experiment.method]
    task: Task = {
        "kind": experiment.kind,
        "method": method.alias or experiment.method,
        "seed": seed,
        "task": number,
        "groups": groups,
        "text": {k: v for k, v in text.items() if k in seen and v != k},
        "data": {
            "id": spec["id"],
            "format": spec["format"],
            "image_rule": experiment.data.image_rule,
            **fractions(experiment, len(groups)),
        },
        "clip": _content_of(clip),
        "training": resolved,
        "switches": resolve_options(experiment.kind, experiment.method, switches, place),
        "evaluation": _evaluation(experiment),
    }
    if method.trains == "all":
        task["trains"] = "all"
    return task


def _content_of(clip: ClipSource) -> ClipSource:
    """Return what says which CLIP it is, without paths: a moved file changes no task."""
    return cast(ClipSource, {key: clip[key] for key in ("model", "tag", "id") if key in clip})


def _evaluation(experiment: Experiment) -> dict[str, Any]:
    """Return how the predictions are scored; without what is left open."""
    settings = experiment.evaluation.model_dump(mode="json")
    return {key: value for key, value in settings.items() if value is not None}


def _with_stores(
    plan: RunPlan, experiment: Experiment, payload: Task, clip: ClipSource, where: object
) -> TaskPlan:
    """Finish a task: add its text embeddings and its feature store to the plan."""
    name, seed, number = str(experiment.name), payload["seed"], payload["task"]
    cache, devices, nodes = map(payload["training"].pop, RUNTIME_KEYS)
    kind = KINDS[experiment.kind]
    if kind.methods[experiment.method].closed_form:
        store, described = image_store(payload, clip, where)
        plan.features[store] = described
        text, sentences = own_texts(payload)
        if text is not None:
            plan.texts[text] = sentences
        return TaskPlan(name, seed, number, payload, text, store)
    if not kind.dense:
        return TaskPlan(name, seed, number, payload, devices=devices, nodes=nodes)
    from clclip.clip.ids import feature_id, text_id

    names = text_names(payload)
    text = text_id(clip["id"], names)
    plan.texts[text] = {"clip": clip["id"], "names": names}
    training, switches = payload["training"], payload["switches"]
    # large-scale jitter shows another crop in every pass: there is nothing to cache
    cache = cache and training["augment"] != "lsj"
    size = training["image_size"] or kind.side(clip)
    dense = switches["dense"]
    described = {
        "data": payload["data"]["id"],
        "clip": clip["id"],
        "size": size,
        "dense": dense_mode(clip) if dense == "auto" else dense,
        "taps": taps(clip, len(switches["scales"])),
        "flip": training["augment"] == "flip",
    }
    store, keys = feature_id(**described), ("size", "dense", "taps", "flip")
    payload["features"] = {"id": store, "cache": cache} | {key: described[key] for key in keys}
    if cache:
        plan.features[store] = described
    return TaskPlan(name, seed, number, payload, text, store if cache else None, devices, nodes)
