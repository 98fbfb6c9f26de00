"""CL-CLIP at inference: route (region, class) pairs, run the experts, refine the boxes.

With a path per task the region layers run only on regions that some class of the task is routed to.
The routing needs the prior alone: the frozen tower's cost volume averaged inside each box.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from clclip.clip.cost_volume import cost_volume
from clclip.detection.layers.batch import Batch
from clclip.detection.layers.path import SharedPath
from clclip.detection.layers.pyramid import laid_out
from clclip.detection.layers.region_maps import RegionMaps
from clclip.detection.layers.regions import refine
from clclip.detection.methods.clclip.pairs import routed_pairs
from clclip.detection.methods.clclip.pathways import Pathways
from clclip.detection.methods.clclip.rest import Sight

# pairs per expert call: bounds the memory, and is fixed so that results do not depend on the class
# count; on a CPU the pairs' features stay in the cache, elsewhere few large calls are better
PAIR_CHUNK = {"cpu": 512}
PAIR_CHUNK_ELSEWHERE = 8192

Candidates = tuple[list[Tensor], list[Tensor], list[Tensor]]  # per image boxes, scores, columns


class Routed(NamedTuple):
    """The pairs of one task's classes."""

    gates: RegionMaps
    region: Tensor  # (N,)
    column: Tensor  # (N,), sorted
    prior: Tensor  # (N,)


class Regions(NamedTuple):
    """Outputs of a path's region layers on the proposals that they ran on."""

    boxes: list[Tensor]  # per image (R_i, 4)
    features: Tensor  # (R, C, 7, 7)
    vectors: Tensor  # (R, fc_width)
    deltas: Tensor  # (R, 4)
    row: Tensor | None  # row of each proposal in the above; None: all proposals, in order


class PathResult(NamedTuple):
    """What a path says of a batch.

    Attributes:
        place: its 0-based place.
        candidates: of each task whose experts read the path.
        proposals: per image (N, 4); none where the path rests.
    """

    place: int
    candidates: list[Candidates]
    proposals: list[Tensor]


class First(NamedTuple):
    """What the later paths of a line read of its first one."""

    levels: OrderedDict[str, Tensor]
    sight: Sight | None  # None: nothing rests by it


@torch.no_grad()
def run_paths(model: Pathways, batch: Batch, parts: Iterable[int]) -> Iterator[PathResult]:
    """Yield what each path says; a later one runs on the images alone on which it does not rest.

    Args:
        model: the detector, or one line of a merged one.
        batch: the images.
        parts: 0-based places of the paths; the first of a line stands before the others of it.
    """
    lines: dict[int, First] = {}
    if model.options.adapter == "copy":  # laid out once, as the norms of all paths read them
        taps = [tap.contiguous(memory_format=torch.channels_last) for tap in batch.taps]
        batch = replace(batch, taps=taps)
    for index in parts:
        line = lines.get(model.origins[index])
        images = _awake(model, batch, index, line)
        if not images:
            nothing = [batch.dense.new_zeros(0, 4)] * len(batch.canvas.image_sizes)
            yield PathResult(index, [_no_candidates(batch)], nothing)
            continue
        path, own, base = model.shared_paths()[index], batch.of(images), line and line.levels
        if base and own is not batch:
            base = OrderedDict((name, level[images]) for name, level in base.items())
        levels = path.levels(own.taps, base)
        proposals, _ = path.propose(levels, own.canvas)
        tasks = range(len(model.groups)) if len(model.paths) == 1 else [index]
        candidates, regions = path_candidates(model, own, path, levels, proposals, tasks)
        if line is None:
            sight = look(model, batch, path, index, regions) if model.rests and regions else None
            lines[index] = First(levels, sight)
        if own is not batch:
            candidates = [_spread(made, images, batch) for made in candidates]
            (proposals,) = _spread((proposals,), images, batch)
        yield PathResult(index, candidates, proposals)


def _awake(model: Pathways, batch: Batch, index: int, line: First | None) -> list[int]:
    """Return the images on which a path does not rest."""
    rest, count = model.rest_of(index), len(batch.canvas.image_sizes)
    if rest is None or line is None:
        return list(range(count))
    if line.sight is None:  # as an image without a region, beside others that have some
        return [] if (rest.threshold > 0).all() else list(range(count))
    evidence = line.sight.evidence(model.text[model.classes_of(index)])
    return torch.where(rest.awake(evidence, line.sight.image, count))[0].tolist()


@torch.no_grad()
def path_candidates(
    model: Pathways,
    batch: Batch,
    path: SharedPath,
    levels: OrderedDict[str, Tensor],
    proposals: list[Tensor],
    tasks: Sequence[int],
) -> tuple[list[Candidates], Regions | None]:
    """Return the candidates of the tasks whose experts read one path, and the regions it looked at.

    Args:
        model: the detector.
        batch: the images.
        path: the shared path.
        levels: its pyramid.
        proposals: its proposals (R_i, 4) per image.
        tasks: 0-based indices of the tasks.
    """
    routed = [route(model, batch, task, proposals) for task in tasks]
    regions = run_regions(model, path, levels, proposals, routed[0])
    if regions is None:
        return [_no_candidates(batch) for _ in tasks], None
    candidates = [
        _score(model, batch, path, task, pairs, proposals, regions)
        for task, pairs in zip(tasks, routed, strict=True)
    ]
    return candidates, regions


def run_regions(
    model: Pathways,
    path: SharedPath,
    levels: OrderedDict[str, Tensor],
    proposals: list[Tensor],
    routed: Routed,
) -> Regions | None:
    """Run the region layers of a path; None without a region.

    A path of one task looks at the regions that some class of the task is routed to. One shared
    path runs all proposals: a batch that depended on later tasks' routing would change earlier
    scores by rounding; so would the batch of the first task.
    """
    boxes, place = proposals, None
    if model.options.shared == "adapters":
        counts = [len(own) for own in proposals]
        used = torch.zeros(sum(counts), dtype=torch.bool, device=model.device)
        used[routed.region] = True
        place = used.cumsum(0) - 1
        used_counts = torch.stack([own.sum() for own in used.split(counts)]).tolist()
        boxes = list(torch.cat(proposals)[used].split(used_counts))
    if not sum(map(len, boxes)):
        return None
    features = path.regions(levels, boxes)
    vectors = path.vectors(features)
    return Regions(boxes, features, vectors, path.box(vectors), place)


def look(model: Pathways, batch: Batch, path: SharedPath, index: int, regions: Regions) -> Sight:
    """Return what the first path of a line sees of a batch, in the regions that it looked at."""
    text = model.text[model.classes_of(index)]
    assert path.text is not None  # without one nothing rests
    classifier = path.text.classifier
    tokens = RegionMaps(batch.dense, regions.boxes, model.stride)
    z = classifier.embed(regions.vectors)
    return Sight(classifier, z, tokens.means(), text, tokens.image)


def route(model: Pathways, batch: Batch, task: int, proposals: list[Tensor]) -> Routed:
    """Return the (region, class) pairs of a task that are scored."""
    s, bank = model.options, model.bank_of(task)
    gates, prior = model.pathways(batch.dense, model.classes_of(task), proposals)
    threshold = bank.threshold if s.experts else bank.threshold.expand(prior.shape[1])
    region, column = routed_pairs(model.routing(prior), threshold, s.route, s.route_cap)
    return Routed(gates, region, column, prior[region, column])


def _score(
    model: Pathways,
    batch: Batch,
    path: SharedPath,
    task: int,
    pairs: Routed,
    proposals: list[Tensor],
    regions: Regions,
) -> Candidates:
    """Return boxes, scores and columns, per image, of one task's classes."""
    bank, logits, refined = model.bank_of(task), [], []
    if path.text is not None:
        odds, text_logits = model.text_scores(path, regions.vectors, task)
        if model.options.route == "text":
            pairs = likely(pairs, text_logits, regions.row, model.options.route_probability)
    chunk = PAIR_CHUNK.get(batch.dense.device.type, PAIR_CHUNK_ELSEWHERE)
    shared = laid_out(regions.features)
    for r, c, p in zip(*(part.split(chunk) for part in pairs[1:]), strict=True):
        row = r if regions.row is None else regions.row[r]
        features = model.decouple(shared, pairs.gates[r, c], row)
        logit, _, own = model.apply_experts(bank, features, c, p)
        logits.append(logit if path.text is None else path.text.join(logit, odds[row, c]))
        refined.append(regions.deltas[row] if own is None else own)
    if not logits:
        return _no_candidates(batch)
    score = torch.cat(logits).sigmoid()
    if a := model.options.fusion:
        score = score.pow(1 - a) * _frozen_score(model, batch, task, pairs).pow(a)
    image = pairs.gates.image[pairs.region]
    extents = torch.tensor(batch.canvas.image_sizes, device=image.device)[image]
    boxes = refine(torch.cat(proposals)[pairs.region], torch.cat(refined), extents)
    columns = pairs.column + model.classes_of(task).start
    members = [torch.where(image == n)[0] for n in range(len(proposals))]
    return (
        [boxes[own] for own in members],
        [score[own] for own in members],
        [columns[own] for own in members],
    )


def _frozen_score(model: Pathways, batch: Batch, task: int, pairs: Routed) -> Tensor:
    """Return what the frozen CLIP says of the pairs, (N,) in [0, 1] (item 8).

    The published sigmoid tells no class from another. The share does (``fusion_score``, ours), and
    like F-ViT's softmax it is taken among all classes that were known when the task ended.
    """
    if model.options.fusion_score == "sigmoid":
        return model.gate.score(pairs.prior)
    classes = model.classes_of(task)
    cost = cost_volume(batch.dense, model.text[: classes.stop])
    share = model.gate.share(pairs.gates.of(cost).means())
    return share[pairs.region, classes.start + pairs.column].exp()


def likely(pairs: Routed, logits: Tensor, row: Tensor | None, ratio: float) -> Routed:
    """Return the pairs whose class the path's text classifier does not rule out.

    The second stage of ``route: text`` (ours). The classifier reads the trained region features,
    where the first stage reads the frozen cost volume alone. Its classes are the task's own, those
    before it and background, so later tasks change nothing. A pair is held against the likeliest
    entry of its region: where the texts separate nothing every pair passes, however many classes
    share the probability.

    Args:
        pairs: pairs of the task's K classes, by share.
        logits: (R, previous + K + 1) of the regions that the path ran on, background last.
        row: the row in ``logits`` of each proposal; None: all proposals, in order.
        ratio: smallest probability of a pair's class over that of the likeliest entry.
    """
    region, classes = pairs.region, pairs.gates.maps.shape[1]
    own = logits[:, -1 - classes : -1] - logits.amax(1, keepdim=True)
    keep = own[region if row is None else row[region], pairs.column] > math.log(ratio)
    return Routed(pairs.gates, *(part[keep] for part in pairs[1:]))


def _spread(
    parts: Sequence[list[Tensor]], images: Sequence[int], batch: Batch
) -> tuple[list[Tensor], ...]:
    """Return lists over some images as lists over all of a batch, empty on the others."""
    place = {image: n for n, image in enumerate(images)}
    return tuple(
        [own[place[n]] if n in place else own[0][:0] for n in range(len(batch.canvas.image_sizes))]
        for own in parts
    )


def _no_candidates(batch: Batch) -> Candidates:
    """Return no candidates on any image."""
    empty, count = batch.dense.new_zeros(0), len(batch.canvas.image_sizes)
    return [empty.view(0, 4)] * count, [empty] * count, [empty.long()] * count
