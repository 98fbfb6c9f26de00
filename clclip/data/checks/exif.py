"""Which view of a photograph its boxes were drawn on: as EXIF turns it, or its stored pixels.

Phones store landscape pixels and an EXIF orientation. Most tools show, and let people draw on, the
turned view; some record the size of that view, others (Label Studio) that of the stored pixels, and
some tools draw on the stored pixels. So a recorded size of the turned view decides for its image. A
box that fits one view only decides for every image whose size leaves it open. Where nothing can
tell, the user must: ``data.exif``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clclip.core.errors import InputError
from clclip.data.checks.findings import Findings
from clclip.data.images import ImageFacts
from clclip.data.readers.annotated import Annotated

# A box may stick out this many pixels and still be the work of a tool that rounds.
BOX_TOLERANCE = 2.0

SIZE_UNKNOWN = "size not recorded, that of the file used"

Size = tuple[int, int]
Box = Sequence[float]


@dataclass(frozen=True)
class Photo:
    """One image of a data set whose file was looked at.

    Attributes:
        name: its file name, for messages.
        where: its place in the annotations, for messages.
        facts: what the file showed.
        recorded: (width, height) in the annotations, None where unknown.
        boxes: [x, y, width, height] in pixels of some view.
        measured: whether ``recorded`` is the size of the file as EXIF turns it, as for fractions.
    """

    name: str
    where: str
    facts: ImageFacts
    recorded: tuple[int | None, int | None]
    boxes: Sequence[Box]
    measured: bool = False

    @property
    def turned(self) -> Size:
        """(width, height) as EXIF turns it."""
        return self.facts.size(True)

    @property
    def stored(self) -> Size:
        """(width, height) of the stored pixels."""
        return self.facts.size(False)


def photos(annotated: Annotated, facts: Mapping[int, ImageFacts]) -> dict[int, Photo]:
    """Return the images of a split whose files were looked at, by their place in it.

    Args:
        annotated: the split.
        facts: what the file of the n-th image showed.
    """
    boxes: dict[int, list[Box]] = {}
    for annotation in annotated.annotations:
        boxes.setdefault(annotation["image_id"], []).append(annotation["bbox"])
    return {
        n: Photo(
            image["file_name"],
            annotated.where_image(n),
            facts[n],
            (image["width"], image["height"]),
            boxes.get(image["id"], ()),
            annotated.measured,
        )
        for n, image in enumerate(annotated.images)
        if n in facts
    }


def choose_views(
    photos: Sequence[Photo], choice: str | None, findings: Findings
) -> list[bool | InputError]:
    """Return for each photo whether EXIF is applied, or what is wrong with its recorded size.

    Args:
        photos: all images of a data set, of both splits.
        choice: ``data.exif``: "apply", "ignore", or None to let sizes and boxes decide.
        findings: receives which view was taken, and why.

    Raises:
        InputError: where nothing can tell, or boxes contradict each other.
    """
    known = [_by_size(photo, choice, findings) for photo in photos]
    pairs = list(zip(photos, known, strict=True))
    still = [photo for photo, view in pairs if view is None]
    settled = [photo for photo, view in pairs if view is True and photo.facts.orientation != 1]
    view, why = _by_boxes(still, settled) if still else (None, "")
    counts: Counter[tuple[bool, str]] = Counter()
    views: list[bool | InputError] = []
    for photo, chosen in pairs:
        reason = "their recorded size is that view's"
        if photo.measured:
            reason = "fractions of YOLO labels are of the image as it is seen"
        if choice:
            reason = f"data.exif: {choice}"
        if chosen is None:
            chosen, reason = (view, why) if view is not None else _alone(photo, bool(settled))
        if photo.facts.orientation != 1 and not isinstance(chosen, InputError):
            counts[chosen, reason] += 1
        views.append(chosen)
    for (chosen, reason), count in counts.items():
        verb = "applied" if chosen else "not applied"
        images = "one image" if count == 1 else f"{count} images"
        findings.tell(f"EXIF orientation {verb} to {images}: {reason}")
    return views


def _by_size(photo: Photo, choice: str | None, findings: Findings) -> bool | InputError | None:
    """Return what the recorded size and ``choice`` decide; None leaves it open."""
    recorded, turned, stored = photo.recorded, photo.turned, photo.stored
    upright = photo.facts.orientation == 1
    by_choice = None if choice is None else choice == "apply"
    if None in recorded:
        findings.note(SIZE_UNKNOWN, repr(photo.name))
        return True if upright else by_choice
    if recorded == stored:
        return True if upright else by_choice
    if recorded == turned:
        return True if by_choice is None else by_choice
    if turned == stored == recorded[::-1] and all(_fits(box, stored) for box in photo.boxes):
        warning = "recorded width and height exchanged, the size of the file used"
        findings.note(warning, repr(photo.name))
        return True if upright else by_choice
    problem = f"{recorded[0]} x {recorded[1]} recorded for an image of {turned[0]} x {turned[1]}"
    if not upright:
        problem += f" (as EXIF turns it; {stored[0]} x {stored[1]} as stored)"
    elif recorded[::-1] == stored:
        problem += " (EXIF may have turned it once)"
    expected = f"width {turned[0]} and height {turned[1]}, and boxes in its pixels"
    return InputError(problem, photo.where, expected)


def _by_boxes(still: Sequence[Photo], settled: Sequence[Photo]) -> tuple[bool | None, str]:
    """Return the view that a box decides on, None if none does, and the reason.

    Args:
        still: the photos that are open.
        settled: those whose recorded size is that of the turned view alone; they are asked where
            the open ones say nothing.

    Raises:
        InputError: if boxes of the open ones contradict each other.
    """
    votes: dict[bool, Photo] = {}
    for photo in still:
        for view in _votes(photo):
            votes.setdefault(view, photo)
    if len(votes) == 2:
        what = f"boxes of {votes[True].name!r} fit it only as EXIF turns it, those of "
        what += f"{votes[False].name!r} only as it is stored"
        raise InputError(what, votes[True].where, "boxes of one view, or data.exif: apply | ignore")
    votes = votes or {view: photo for photo in settled for view in _votes(photo) if view}
    for view, photo in votes.items():
        return view, f"a box of {photo.name!r} fits that view only"
    open_ones = [photo for photo in still if _cannot_tell(photo, bool(settled))]
    if open_ones:
        first = open_ones[0]
        images = "one image" if len(open_ones) == 1 else f"{len(open_ones)} images"
        what = f"EXIF turns {images} ({first.name!r}), whose boxes fit both views"
        expected = "data.exif: apply (boxes drawn on the turned view) | ignore (on stored pixels)"
        raise InputError(what, first.where, expected)
    return None, ""


def _votes(photo: Photo) -> set[bool]:
    """Return the views that a box of the photo fits while it does not fit the other."""
    views = set()
    for box in photo.boxes:
        turned, stored = _fits(box, photo.turned), _fits(box, photo.stored)
        if turned != stored:
            views.add(turned)
    return views


def _cannot_tell(photo: Photo, others_turned: bool) -> bool:
    """Return whether a photo has boxes whose view nothing tells (none of them fits one only)."""
    if None in photo.recorded or (others_turned and photo.turned == photo.stored):
        return False
    return any(_fits(box, photo.stored) for box in photo.boxes)


def _alone(photo: Photo, others_turned: bool) -> tuple[bool, str]:
    """Return the view of an open photo that no box decides for, and the reason."""
    if None in photo.recorded:
        return True, "their size is not recorded, and people draw on the turned view"
    if photo.turned != photo.stored:
        return False, "their recorded size is that of the stored pixels"
    if others_turned:
        return True, "the recorded sizes of others are those of the turned view"
    return True, "they have no boxes"


def _fits(box: Box, size: Size) -> bool:
    """Return whether a box lies in an image of (width, height), give or take the tolerance."""
    x, y, w, h = box
    return (
        all(map(math.isfinite, box))
        and min(w, h) > 0
        and min(x, y) >= -BOX_TOLERANCE
        and x + w <= size[0] + BOX_TOLERANCE
        and y + h <= size[1] + BOX_TOLERANCE
    )
