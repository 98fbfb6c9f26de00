"""Inference of F-ViT and CL-CLIP, routed and exact: python benchmarks/inference.py [--quick].

Untrained detectors on cached features of 8 scenes: time and memory at K = 20, 80, 200 classes in
T = 2 tasks, and with T = 2, 5, 11 tasks (a path each). Classes beyond the world's are copies of
its own, so every object is near several. Pair recall: the share of labelled boxes whose own class
is routed to them. ``--runs`` adds trained runs, all in one run of the clock: seconds per image and
AP50 by each route, and seconds with copies of their later tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import measure
import torch
import worlds
from torch import nn

from clclip.clip.cost_volume import cost_volume
from clclip.core.files import read_json
from clclip.core.task import find_task, read_task, seen_classes
from clclip.detection.inputs.dataset import FeatureBatches, read_labels
from clclip.detection.inputs.online import open_features
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.region_maps import RegionMaps
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.clclip.inference import likely, route
from clclip.detection.methods.detector import DetectorInputs
from clclip.detection.stages.build import load_detector
from clclip.detection.stages.train import PREDICT_BATCH, coco_results
from clclip.evaluation.ap import average_precision
from clclip.evaluation.matching import match

ROUTES = ("share", "prior", "all")
TASKS = 11  # of a trained stream lengthened by copies
# thresholds of a trained run fit shares or priors
TRAINED_ROUTES = ("share", "text", "text, objectness 0.1", "all")


def routed(model: ClClip, how: str) -> ClClip:
    """Let a model route as a name of ``TRAINED_ROUTES`` says, and return it."""
    route, _, objectness = how.partition(", objectness ")
    model.options = model.options.model_copy(update={"route": route})
    for path in model.paths:
        path.rpn.score_thresh = float(objectness or 0)  # as ``objectness`` sets it
    return model


def pair_share(model: ClClip, batch: Batch) -> float:
    """Return the share of all (proposal, class) pairs that is scored."""
    scored, all_pairs, base = 0, 0, None
    with torch.no_grad():
        for index, path in enumerate(model.paths):
            levels = path.levels(batch.taps, base)
            base = base or levels
            proposals, _ = path.propose(levels, batch.canvas)
            for task in range(len(model.groups)) if len(model.paths) == 1 else [index]:
                pairs = route(model, batch, task, proposals)
                if model.options.route == "text":
                    vectors = path.vectors(path.regions(levels, proposals))
                    _, logits = model.text_scores(path, vectors, task)
                    pairs = likely(pairs, logits, None, model.options.route_probability)
                scored += len(pairs.region)
                all_pairs += sum(map(len, proposals)) * len(model.groups[task])
    return scored / all_pairs


def pair_recall(model: ClClip, batch: Batch, classes: int) -> float:
    """Return the share of labelled boxes of the first classes whose own class passes its gate."""
    boxes = [target["boxes"] for target in batch.targets]
    labels = torch.cat([target["labels"] for target in batch.targets])
    cost = cost_volume(batch.dense, model.text)
    prior = RegionMaps(cost, boxes, model.stride).means()
    value = torch.cat(
        [model.routing(prior[:, model.classes_of(task)]) for task in range(len(model.groups))], 1
    )
    threshold = torch.cat([bank.threshold for bank in model.banks])
    rows = torch.where(labels < classes)[0]
    own = value[rows, labels[rows]] > threshold[labels[rows]]
    return float(own.float().mean())


def untrained(scenes: worlds.Scenes, counts: list[int], tasks: list[int]) -> dict[str, nn.Module]:
    """Return the detectors by name."""
    first = counts[0]
    found: dict[str, nn.Module] = {f"fvit K={first}": scenes.fvit(first, 2)}
    for count in counts:
        for how in ROUTES:
            found[f"clclip {how} K={count}"] = scenes.clclip(count, 2, route=how)
    for number in tasks:
        found[f"clclip share K={first} T={number}"] = scenes.clclip(first, number)
        residual = scenes.clclip(first, number, adapter="residual")
        found[f"clclip residual K={first} T={number}"] = residual
    found[f"clclip residual K={first}"] = scenes.clclip(first, 2, adapter="residual")
    found[f"clclip drift K={first}"] = scenes.clclip(first, 2, shared="drift")
    return found


def synthetic_rows(chosen: Any, counts: list[int], tasks: list[int], images: int) -> list[dict]:
    """Measure untrained detectors."""
    world = "shapes20_tiny" if chosen.quick else "shapes80"
    scenes = worlds.Scenes(world, 16 if chosen.quick else 128, images)
    batch = scenes.batch("test", range(images))
    models = untrained(scenes, counts, tasks)
    runs: dict[str, Callable] = {
        name: lambda model=model: model.detect(batch) for name, model in models.items()
    }
    pixels = scenes.pixels("test")
    runs["tower"] = lambda: scenes.tower(pixels)
    seconds = measure.timed(runs, chosen.rounds)
    rate, rows = measure.gflops_of_machine(), []
    fvit, base = seconds[f"fvit K={counts[0]}"], seconds[f"clclip share K={counts[0]}"]
    both = [a + b for a, b in zip(fvit, seconds["tower"], strict=True)]
    for name, run in runs.items():
        model, own = models.get(name), seconds[name]
        ours = model if isinstance(model, ClClip) else None
        work = measure.gflop(run)
        rows.append(
            {
                "run": name,
                "ms per image": 1e3 * measure.median(own) / images,
                "x F-ViT": measure.ratio(own, fvit),
                "x F-ViT, with tower": measure.ratio(
                    [a + b for a, b in zip(own, seconds["tower"], strict=True)], both
                )
                if model is not None
                else None,
                f"x K={counts[0]}": measure.ratio(own, base),
                "peak MiB": measure.peak_mib(run),
                "pairs": pair_share(ours, batch) if ours else None,
                "pair recall": pair_recall(ours, batch, counts[0]) if ours else None,
                "floor ms per image": 1e3 * work / rate / images,
            }
        )
    return rows


class Trained:
    """A trained run with its test images.

    Args:
        run: results/EXPERIMENT/seedN.
        resources: folder of features, texts and CLIPs.
        images: number of test images that are timed.
    """

    def __init__(self, run: Path, resources: Path, images: int) -> None:
        file = find_task(run, None)
        self.name, self.task, folder = run.resolve().parent.name, read_task(file), file.parent
        source = open_features(self.task, "test", resources, folder / "test.json")
        self.model = load_detector(file, resources, source.width, source.stride)
        names, self.truth = seen_classes(self.task), read_json(folder / "test.json")
        ids = {c["name"]: c["id"] for c in self.truth["categories"]}
        self.ids = {name: ids[name] for name in names}
        self.batches = FeatureBatches(read_labels(folder / "test.json", names), source)
        self.count = min(images, len(self.batches.images))
        starts = range(0, self.count, PREDICT_BATCH)
        self.timed = [
            self.batches.plain(range(start, min(start + PREDICT_BATCH, self.count)))
            for start in starts
        ]

    @property
    def routes(self) -> tuple[str, ...]:
        """The routes to measure; one without a name where there is none to choose."""
        return TRAINED_ROUTES if isinstance(self.model, ClClip) else ("",)

    def detector(self, how: str) -> nn.Module:
        """Return the detector, routed so."""
        return routed(self.model, how) if how else self.model

    def ap50(self, how: str) -> float:
        """Return AP50 (area) of all classes, in percent, on all test images."""
        found = _detections(self.detector(how), self.batches, list(self.ids.values()))
        values = [
            average_precision(m.true_positive, m.object_images.size, "voc_area")
            for m in match(self.truth, found, self.ids).values()
        ]
        known = [value for value in values if value is not None]
        return 100 * sum(known) / len(known)


def trained_rows(chosen: Any) -> list[dict[str, Any]]:
    """Measure trained runs in turn: seconds per image, and unless told otherwise AP50 (area).

    With a path per task each is measured with copies of its last task besides, up to ``TASKS``
    tasks in all: what a longer stream would cost.
    """
    found = [Trained(run, chosen.resources, chosen.images) for run in chosen.runs]
    cases = {(run.name, how): (run, run.detector, how) for run in found for how in run.routes}
    for run in found:
        if isinstance(run.model, ClClip) and 2 < len(run.task["groups"]) < TASKS:
            longer = copied(run.model, TASKS)
            for how in TRAINED_ROUTES[1:3]:
                name = f"{run.name} and copies"
                cases[name, how] = (run, partial(routed, longer), how)
    calls = {key: partial(_detect, *case) for key, case in cases.items()}
    seconds, rows = measure.timed(calls, chosen.rounds), []
    base = seconds[next(key for key in cases if key[1] in ("text", ""))]
    for (name, how), (run, make, _) in cases.items():
        own, model = seconds[name, how], make(how)
        pairs = pair_share(model, run.timed[0]) if how else None
        whole = name == run.name and not chosen.no_ap
        rows.append(
            {
                "trained run": f"{name} {how}".strip(),
                "classes": len(model.text),
                "tasks": len(model.groups),
                "ms per image": 1e3 * measure.median(own) / run.count,
                "x first": measure.ratio(own, base),
                **({"mAP@A": run.ap50(how)} if whole else {}),
                "pairs a region": len(model.text) * pairs if pairs is not None else None,
                "peak MiB": measure.peak_mib(calls[name, how]),
            }
        )
    return rows


def _detect(run: Trained, make: Callable[[str], nn.Module], how: str) -> object:
    model = make(how)
    return [model.detect(batch) for batch in run.timed]


def copied(model: ClClip, tasks: int) -> ClClip:
    """Return a detector of ``tasks`` tasks: those of ``model``, then copies of its later ones."""
    count = len(model.groups)
    origin = [*range(count), *(1 + k % (count - 1) for k in range(tasks - count))]
    columns = [range(*model.classes_of(task).indices(len(model.text))) for task in origin]
    groups = [[f"{name} {n}" for name in model.groups[task]] for n, task in enumerate(origin)]
    text = model.text[[column for own in columns for column in own]]
    width = model.paths[0].pyramid.norms[0].normalized_shape[0]
    inputs = DetectorInputs(width, model.stride, groups, text, model.background, 0)
    longer = ClClip(inputs, model.options)
    longer.gate.load_state_dict(model.gate.state_dict())
    for place, task in enumerate(origin):
        longer.paths[place].load_state_dict(model.paths[task].state_dict())
        longer.banks[place].load_state_dict(model.banks[task].state_dict())
        if (rest := longer.rest_of(place)) is not None:
            rest.load_state_dict(model.rests[str(task)].state_dict())
    return longer.finished()


def _detections(model: nn.Module, batches: FeatureBatches, ids: list[int]) -> list[dict]:
    """Return COCO results on all test images."""
    found: list[dict] = []
    for start in range(0, len(batches.images), PREDICT_BATCH):
        members = list(range(start, min(start + PREDICT_BATCH, len(batches.images))))
        for i, own in zip(members, model.detect(batches.plain(members)), strict=True):
            image = batches.images[i]
            scale, size = batches.letterboxed(image).scale, (image.width, image.height)
            found += coco_results(image.image_id, own, ids, scale, size)
    return found


def main() -> None:
    """Measure and write inference.json and, of trained runs, inference_trained.json."""
    chosen = measure.options(
        __doc__,
        runs={"type": Path, "nargs": "*", "default": [], "metavar": "DIR"},
        resources={"type": Path, "default": Path("resources"), "metavar": "DIR"},
        images={"type": int, "default": PREDICT_BATCH, "help": "of --runs, so many are timed"},
        no_ap={"action": "store_true", "help": "of --runs, measure times alone"},
        only_runs={"action": "store_true", "help": "leave out the untrained detectors"},
    )
    if chosen.runs:
        measure.write("inference_trained", chosen, trained_rows(chosen))
    if not chosen.only_runs:
        sizes = ([6, 10], [3], 2) if chosen.quick else ([20, 80, 200], [5, 11], 8)
        measure.write("inference", chosen, synthetic_rows(chosen, *sizes))


if __name__ == "__main__":
    main()
