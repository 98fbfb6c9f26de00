"""``clclip classify``: the classes of images of one's own, by a trained model or run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from clclip.classification.classifier import EVAL_BATCH
from clclip.core.errors import InputError
from clclip.core.files import write_json
from clclip.data.own_images import find_images
from clclip.model.load import load_model
from clclip.model.use.classification import ClassificationModel
from clclip.model.use.progress import Skipped, progress

logger = logging.getLogger(__name__)


def classify(
    place: Path,
    images: Sequence[Path],
    out: Path | None,
    *,
    task: int | None = None,
    top: int = 5,
    resources: Path | None = None,
    batch: int = EVAL_BATCH,
    recursive: bool = False,
    on_bad_image: Literal["fail", "skip"] = "fail",
) -> list[dict[str, Any]]:
    """Classify images and write the most probable classes of each.

    Args:
        place: a model folder, or ``results/EXPERIMENT/seedN``.
        images: image files, folders of them, patterns, lists (see ``find_images``).
        out: JSON file: a list of {"image", "classes": [{"class", "probability"}, ...]}, most
            probable first; None: nothing is written.
        task: a run's classifier after this task; None: after the last trained one.
        top: classes given for each image.
        resources: folder of the tower; None: see ``load_model``.
        batch: images of a forward pass.
        recursive: look into the folders of folders.
        on_bad_image: what to do with an image that cannot be read: stop with an error, or skip it
            with a warning.

    Returns:
        the answers.

    Raises:
        InputError: if the model, the task or an image is missing or wrong, or it is a detector.
    """
    if top < 1:
        raise InputError(f"top {top}", "--top-k", "a number from 1")
    if batch < 1:
        raise InputError(f"batch {batch}", "--batch", "a number from 1")
    files = find_images(images, recursive)
    model = load_model(place, task=task, resources=resources, kind="classification")
    assert isinstance(model, ClassificationModel)
    skipped, answers = Skipped(files, on_bad_image), []
    stream = model.answers(files, batch=batch, on_bad=skipped.add)
    for number, one in progress(stream, len(files), "classify"):
        best = zip(one.names[:top], one.scores[:top].tolist(), strict=True)
        named = [{"class": name, "probability": round(score, 6)} for name, score in best]
        answers.append({"image": str(files[number]), "classes": named})
    skipped.check()
    if out is not None:
        write_json(out, answers, indent=1)
    logger.info("%d images classified", len(answers))
    return answers
