"""What became of every object and every wrong box of a class between two runs, and why.

Two runs over the same test images are compared object by object: *before*, the predictions of an
earlier task, and *after*, those of a later one. Every difference between them belongs to one cause:

- not proposed: an object is missed, and no proposal overlaps it any more (needs proposals); boxes
  of its class that still lie near it are part of this
- resting path: the same, because the path of the class proposed nothing at all on the image
- score: an object is missed though proposed, or detected with another score: relegated
- no detection near: both of the above, where proposals are unknown and cannot tell them apart
- box: an object is missed by a box of the right class that overlaps it too little, or detected by a
  worse one because the better one has moved away
- new class, old class: another class took the object, or an object of another class is now called
  this one
- duplicate: a second box on an object that is already matched
- background: a box on nothing
- gained: an object that only the later task finds (a gain, so a negative loss)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clclip.evaluation.boxes import iou
from clclip.evaluation.matching import Matching, Pairing

CAUSES = (
    "not proposed",
    "resting path",
    "no detection near",
    "score",
    "box",
    "new class",
    "old class",
    "duplicate",
    "background",
    "gained",
)
MATCH, NEAR = 0.5, 0.1
RESTING = -1.0  # stands for the overlap of an object on an image where its path proposed nothing

Version = tuple[float, int, bool] | None
"""(score, rank in its run, whether it is right), or None where the run has no such detection."""
Element = tuple[str, Version, Version]
"""(cause of the difference, version before, version after)."""


@dataclass
class Matched:
    """One task's predictions, matched and indexed by image.

    Attributes:
        pairs: matches of detections and objects.
        by_image: image id -> ranks of its detections.
        boxes: (N, 4) of the detections [x, y, w, h].
        finder: identity of an annotation -> rank of the detection that matched it. Runs that are
            compared share one ground truth, so an object is the same dict in both.
        objects: image id -> annotations.
    """

    pairs: Pairing
    by_image: dict[Any, list[int]] = field(default_factory=dict)
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    finder: dict[int, int] = field(default_factory=dict)
    objects: dict[Any, list[Mapping[str, Any]]] = field(default_factory=dict)


def matched(
    truth: Mapping[str, Any], detections: Sequence[Mapping[str, Any]], ids: Mapping[str, int]
) -> Matched:
    """Match one task's predictions."""
    pairs = Matching(truth, detections, ids).pair(MATCH)
    run = Matched(
        pairs, boxes=np.array([d["bbox"] for d in pairs.detections], dtype=float).reshape(-1, 4)
    )
    for index, detection in enumerate(pairs.detections):
        run.by_image.setdefault(detection["image_id"], []).append(index)
        if pairs.partner[index] >= 0:
            run.finder[id(pairs.objects[pairs.partner[index]])] = index
    for item in pairs.objects:
        run.objects.setdefault(item["image_id"], []).append(item)
    return run


def object_changes(
    before: Matched,
    after: Matched,
    category: int,
    later: set[int],
    proposals: Mapping[str, float] | None,
) -> list[Element]:
    """Return one element per object of the class that at least one run finds."""
    elements = []
    for index, item in enumerate(after.pairs.objects):
        if item["category_id"] != category or after.pairs.ignored[index]:
            continue
        old, new = _match_of(before, item), _match_of(after, item)
        if old is None and new is None:
            continue
        if old is None:
            cause = "gained"
        elif new is None:
            cause = _why_missed(after, item, category, later, proposals)
        else:
            cause = _why_ranked(before, after, item, category, later)
            cause = (cause == "box" and _unproposed(item, proposals)) or cause
        elements.append((cause, old, new))
    return elements


def _why_ranked(
    before: Matched, after: Matched, item: Mapping[str, Any], category: int, later: set[int]
) -> str:
    """Return why an object that both runs find has another score.

    It was outdone if a box that does not find it scores higher now and did not before: a box of
    another class on it, or one of its own class that has left it to a worse one.
    """
    old, new = _match_of(before, item), _match_of(after, item)
    assert old and new  # both runs find it
    had = max(_rival(before, item, category, later), (_drifted(before, item, category), "box"))
    has = max(_rival(after, item, category, later), (_drifted(after, item, category), "box"))
    return has[1] if has[0] > new[0] and not had[0] > old[0] else "score"


def _match_of(run: Matched, item: Mapping[str, Any]) -> Version:
    """Return the detection that matched an object."""
    rank = run.finder.get(id(item))
    return None if rank is None else (run.pairs.detections[rank]["score"], rank, True)


def _rival(
    run: Matched, item: Mapping[str, Any], category: int, later: set[int]
) -> tuple[float, str]:
    """Return (score, cause) of the best box of another class on an object; (0, "") for none."""
    best = 0.0, ""
    for index in run.by_image.get(item["image_id"], []):
        detection = run.pairs.detections[index]
        # A box that is right about an object of its own class is no rival for this one.
        if detection["category_id"] == category or run.pairs.partner[index] >= 0:
            continue
        if iou(run.boxes[[index]], np.array([item["bbox"]]))[0, 0] >= MATCH:
            cause = "new class" if detection["category_id"] in later else "old class"
            best = max(best, (detection["score"], cause))
    return best


def _drifted(run: Matched, item: Mapping[str, Any], category: int) -> float:
    """Return the best score of a box of an object's class that lies near and finds nothing."""
    best = 0.0
    for index in run.by_image.get(item["image_id"], []):
        detection = run.pairs.detections[index]
        if detection["category_id"] == category and run.pairs.partner[index] < 0:
            if iou(run.boxes[[index]], np.array([item["bbox"]]))[0, 0] >= NEAR:
                best = max(best, detection["score"])
    return best


def _why_missed(
    after: Matched,
    item: Mapping[str, Any],
    category: int,
    later: set[int],
    proposals: Mapping[str, float] | None,
) -> str:
    """Return why an object is not detected any more."""
    drifted, rival = _drifted(after, item, category), _rival(after, item, category, later)
    if rival[1] and rival[0] >= drifted:
        return rival[1]
    if unproposed := _unproposed(item, proposals):
        return unproposed
    if drifted:
        return "box"
    return "no detection near" if proposals is None else "score"


def _unproposed(item: Mapping[str, Any], proposals: Mapping[str, float] | None) -> str:
    """Return why no proposal overlaps the object; "" if one does, or none were recorded.

    Boxes near such an object are others'.
    """
    overlap = MATCH if proposals is None else proposals.get(str(item.get("id")), 0.0)
    if overlap >= MATCH:
        return ""
    return "resting path" if overlap == RESTING else "not proposed"


def wrong_changes(
    before: Matched,
    after: Matched,
    category: int,
    later: set[int],
    proposals: Mapping[str, float] | None = None,
) -> list[Element]:
    """Return one element per wrong detection; one both make at one place is one element."""
    elements: list[Element] = []
    for image in sorted(before.by_image.keys() | after.by_image.keys(), key=str):
        here = after.objects.get(image, [])
        old = _wrong_of(before, image, category)
        new = _wrong_of(after, image, category)
        taken: set[int] = set()
        overlaps = iou(after.boxes[new], before.boxes[old])
        for row, index in enumerate(new):
            free = [k for k in range(len(old)) if k not in taken and overlaps[row, k] >= MATCH]
            partner = max(free, key=lambda k: overlaps[row, k], default=None)
            now = (after.pairs.detections[index]["score"], index, False)
            if partner is None:
                why = why_wrong(after, index, category, later, here, proposals)
                elements.append((why, None, now))
                continue
            taken.add(partner)
            place = old[partner]
            elements.append(("score", (before.pairs.detections[place]["score"], place, False), now))
        for k, index in enumerate(old):
            if k not in taken:
                then = (before.pairs.detections[index]["score"], index, False)
                cause = why_wrong(before, index, category, later, here)
                elements.append((cause, then, None))
    return elements


def _wrong_of(run: Matched, image: Any, category: int) -> list[int]:
    """Return the ranks of a class's wrong detections on one image."""
    return [
        index
        for index in run.by_image.get(image, [])
        if run.pairs.detections[index]["category_id"] == category and run.pairs.partner[index] < 0
    ]


def why_wrong(
    run: Matched,
    index: int,
    category: int,
    later: set[int],
    here: Sequence[Mapping[str, Any]],
    proposals: Mapping[str, float] | None = None,
) -> str:
    """Return what a wrong detection lies on; ``here`` are the objects of its image."""
    if not here:
        return "background"
    overlaps = iou(run.boxes[[index]], np.array([o["bbox"] for o in here]))[0]
    own = np.array([o["category_id"] == category for o in here])
    if (overlaps[own] >= MATCH).any():
        return "duplicate"
    if (overlaps[~own] >= MATCH).any():
        other = here[int(np.argmax(np.where(own, -1.0, overlaps)))]
        return "new class" if other["category_id"] in later else "old class"
    if not (overlaps[own] >= NEAR).any():
        return "background"
    nearest = here[int(np.argmax(np.where(own, overlaps, -1.0)))]
    return _unproposed(nearest, proposals) or "box"
