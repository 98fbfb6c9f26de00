"""Weights & Biases beside history.csv, where ``wandb: offline | online`` asks for it.

The mode reaches a job by its environment, because it is no setting of a task: switching it on must
retrain nothing. One run per task, one group per experiment: training logs the rows of history.csv,
scoring adds P, C and A, a table of classes and a few test images. csv and json stay the record.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from clclip.core.artifacts import Task
from clclip.core.digest import canonical
from clclip.core.files import read_json
from clclip.core.machine import WANDB_CHECKED_VARIABLE, WANDB_VARIABLE
from clclip.core.task import has_boxes, read_task

logger = logging.getLogger(__name__)
Mode = Literal["offline", "online"]

IMAGES, LEAST_SCORE = 8, 0.3
START_SECONDS, FINISH_SECONDS = 30.0, 60.0  # how long an online run may wait for its server
MISSING: Mapping[str, Any] = {}


class WandbRun:
    """One wandb run per task.

    Its id follows from the task's place and content: a job that was killed goes on in the same run,
    and so does the scoring, while a task of other settings is another run. Offline, each start
    leaves a folder of its own with the same id, which ``wandb sync`` joins.

    A server that is lost, or was never reached by this job, ends nothing: the run goes on offline,
    or without wandb where even that fails.

    Args:
        folder: results/EXPERIMENT/seedN/taskT.
        task: the task file, logged as the run's config.
        mode: "offline" or "online".
    """

    def __init__(self, folder: Path, task: Task, mode: Mode) -> None:
        import wandb

        self.folder, self.task, self.run = folder, task, None
        tries: tuple[Mode, ...] = (mode, "offline")
        for tried in dict.fromkeys(tries):
            with self._alive(f"no run of mode {tried}"):
                self.run = self._start(tried)
            if self.run is not None:
                break
            with contextlib.suppress(Exception):
                wandb.teardown()  # the service still holds the id of what it could not open

    def _start(self, mode: Mode) -> Any:
        """Open the run; online, for at most half a minute."""
        import wandb

        experiment, seed, number = self.folder.resolve().parts[-3:]
        return wandb.init(
            project="clclip",
            group=experiment,
            name=f"{experiment} {seed} {number}",
            id=identity(self.folder, self.task),
            resume="allow",
            mode=mode,
            dir=str(self.folder),
            config=dict(self.task),
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=START_SECONDS,
                finish_timeout=FINISH_SECONDS,
            ),
        )

    @contextlib.contextmanager
    def _alive(self, what: str) -> Iterator[None]:
        """Go on after a fault of wandb or of its network; the log says so."""
        try:
            yield
        except Exception as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            logger.warning("wandb: %s (%s); `wandb sync` sends what is in its folder", what, reason)

    def __call__(self, row: dict[str, Any]) -> None:
        """Log one row of the history."""
        self.log({k: v for k, v in row.items() if k != "step"}, row["step"])

    def log(self, values: Mapping[str, Any], step: int, final: Mapping[str, Any] = MISSING) -> None:
        """Log values at a step; ``final`` are those that the run's overview shows."""
        if self.run is None:
            return
        with self._alive(f"step {step} is not logged"):
            self.run.log(dict(values), step=step)
            self.run.summary.update(dict(final))

    def close(self) -> None:
        """Finish the run; what a lost server has not taken within a minute stays on the disk."""
        if self.run is None:
            return
        with self._alive("the run is not finished"):
            self.run.finish()


def identity(folder: Path, task: Task) -> str:
    """Return the id of a task's run."""
    return hashlib.sha256(f"{folder.resolve()} {canonical(task)}".encode()).hexdigest()[:16]


def wandb_mode() -> Mode | None:
    """Return "offline" or "online", or None where wandb is off (the default)."""
    mode = os.environ.get(WANDB_VARIABLE, "off")
    known: dict[str, Mode] = {"offline": "offline", "online": "online"}
    return known.get(mode)


def check_access() -> None:
    """Refuse a training by hand that is to log online and cannot; a run has checked it before.

    Raises:
        InputError: if there is no key, the server refuses it, or it cannot be reached.
    """
    if wandb_mode() == "online" and WANDB_CHECKED_VARIABLE not in os.environ:
        from clclip.training.online import check_online

        check_online()


def tracker(folder: Path, task: Task) -> WandbRun | None:
    """Return the wandb run of a task, or None where it is off."""
    mode = wandb_mode()
    if mode is None:
        return None
    logger.info("wandb: %s, group %s", mode, folder.resolve().parts[-3])
    return WandbRun(folder, task, mode)


def track_scores(task_file: Path, resources: Path) -> None:
    """Log a scored task's numbers, classes and a few test images, where wandb is on.

    Raises:
        InputError: if scores, predictions or the test list are missing or broken.
    """
    mode = wandb_mode()
    if mode is None:
        return
    import wandb

    folder, task = task_file.parent, read_task(task_file)
    tracked = WandbRun(folder, task, mode)
    scores = read_json(folder / "scores.json")
    final = {f"score/{part}": value for part, value in scores["metrics"].items()}
    final = {name: value for name, value in final.items() if value is not None}
    rows = [[name, row["score"], row["objects"]] for name, row in scores["per_class"].items()]
    columns = ["class", scores["metric"], "test objects"]
    shown: dict[str, Any] = {"classes": wandb.Table(columns=columns, data=rows)}
    pictures = _pictures(task, folder, resources)
    if pictures:
        shown["test images"] = pictures
    tracked.log(final | shown, _steps(folder / "history.csv") + 1, final)
    tracked.close()


def _steps(history: Path) -> int:
    """Return the last step that training logged, 0 for none."""
    try:
        with history.open(encoding="utf-8", newline="") as handle:
            return max((int(row["step"]) for row in csv.DictReader(handle)), default=0)
    except (OSError, KeyError, ValueError):
        return 0


def _pictures(task: Task, folder: Path, resources: Path) -> list[Any]:
    """Return a few test images with what the task's model says; none where images are gone."""
    from clclip.data.index import image_root
    from clclip.results.task import open_task

    try:
        truth, root = read_json(folder / "test.json"), image_root(task, resources)
        by_image: dict[Any, list[dict[str, Any]]] = {}
        for row in open_task(folder).predictions():
            by_image.setdefault(row["image"], []).append(row)
        chosen = _spread([image for image in truth["images"] if image["id"] in by_image])
        return [_picture(task, truth, image, by_image[image["id"]], root) for image in chosen]
    except (OSError, ValueError, KeyError) as error:  # InputError is a ValueError
        logger.warning("wandb: no test images (%s)", error)
        return []


def _spread(images: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return a few images at equal distances."""
    count = min(IMAGES, len(images))
    return [images[int((k + 0.5) * len(images) / count)] for k in range(count)]


def _picture(
    task: Task,
    truth: Mapping[str, Any],
    image: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    root: Path,
) -> Any:
    """Return one image for wandb, with boxes or with the class given."""
    import wandb

    from clclip.data.images import load_rgb

    pixels = load_rgb(root / image["file_name"], image.get("exif", True))
    if not has_boxes(task):
        caption = f"{image['label']}: {rows[0]['predicted']} {rows[0]['score']:.2f}"
        return wandb.Image(pixels, caption=caption)
    names = {category["id"]: category["name"] for category in truth["categories"]}
    index = {name: k for k, name in enumerate(names.values())}
    labels = {k: name for name, k in index.items()}
    predictions = [
        _box(row["box"], index[row["class"]], f"{row['class']} {row['score']:.2f}", row["score"])
        for row in rows
        if row["score"] >= LEAST_SCORE
    ]
    objects = [
        _box(a["bbox"], index[names[a["category_id"]]], names[a["category_id"]])
        for a in truth["annotations"]
        if a["image_id"] == image["id"]
    ]
    boxes = {"predictions": predictions, "ground truth": objects}
    groups = {
        name.replace(" ", "_"): {"box_data": own, "class_labels": labels}
        for name, own in boxes.items()
    }
    return wandb.Image(pixels, boxes=groups, caption=str(image["file_name"]))


def _box(
    box: Sequence[float], label: int, caption: str, score: float | None = None
) -> dict[str, Any]:
    """Return a box [x, y, w, h] in pixels as wandb writes it."""
    x, y, w, h = map(float, box)
    place = {"minX": x, "minY": y, "maxX": x + w, "maxY": y + h}
    entry = {"position": place, "class_id": label, "box_caption": caption, "domain": "pixel"}
    return entry | ({} if score is None else {"scores": {"score": float(score)}})
