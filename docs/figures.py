"""Draw the README's picture from a finished default run.

uv run snakemake --cores all && uv run python docs/figures.py results docs/images
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle
from PIL import Image

ROWS = (("F-ViT, fine-tuned", "clutter20_10_10_fvit"), ("CL-CLIP", "clutter20_10_10_clclip"))
OLD, NEW = "#0072B2", "#E69F00"  # Okabe and Ito: blue and orange
THRESHOLD = 0.5


def detections(task: Path, image_id: int) -> list[tuple[list[float], str, float]]:
    """Return (box x y w h, class, score) of one image after a task."""
    names = {c["id"]: c["name"] for c in json.loads((task / "test.json").read_text())["categories"]}
    rows = json.loads((task / "predictions.json").read_text())
    return [
        (d["bbox"], names[d["category_id"]], d["score"])
        for d in rows
        if d["image_id"] == image_id and d["score"] >= THRESHOLD
    ]


def draw(axis, picture: Image.Image, boxes, old: set[str]) -> None:
    """Show an image with its detections, old and new classes in two colours."""
    axis.imshow(picture)
    for (x, y, w, h), name, score in boxes:
        colour = OLD if name in old else NEW
        axis.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor=colour, linewidth=2))
        axis.text(
            min(x, picture.width - 44),
            max(y - 2, 5),
            f"{name} {score:.2f}",
            fontsize=6,
            color="white",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1},
        )
    axis.set_xticks([])
    axis.set_yticks([])


def main(results: Path, out: Path) -> None:
    """Write before_after.png: two images, two methods, after task 1 and after task 2."""
    first = results / ROWS[0][1] / "seed0"
    test = json.loads((first / "task2" / "test.json").read_text())
    old = set(json.loads((first / "task1" / "task.json").read_text())["groups"][0])
    names = {c["id"]: c["name"] for c in test["categories"]}
    shown: dict[int, set[bool]] = {}
    for box in test["annotations"]:
        shown.setdefault(box["image_id"], set()).add(names[box["category_id"]] in old)
    counts = {i: sum(b["image_id"] == i for b in test["annotations"]) for i in shown}
    both = [i["id"] for i in test["images"] if shown.get(i["id"]) == {True, False}]
    chosen = [i for i in both if counts[i] == 4][:2]
    task = json.loads((first / "task2" / "task.json").read_text())
    data = results.parent / "resources" / "data" / task["data"]["id"]
    root = data / json.loads((data / "index.json").read_text())["root"]
    files = {i["id"]: root / i["file_name"] for i in test["images"]}
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.4), layout="constrained")
    for row, (label, experiment) in enumerate(ROWS):
        for column, image_id in enumerate(chosen):
            for step in (1, 2):
                axis = axes[row, 2 * column + step - 1]
                task = results / experiment / "seed0" / f"task{step}"
                draw(axis, Image.open(files[image_id]), detections(task, image_id), old)
                if row == 0:
                    axis.set_title(f"after task {step}", fontsize=10)
        axes[row, 0].set_ylabel(label, fontsize=11)
    figure.suptitle("Blue: the ten classes of task 1. Orange: those of task 2.", fontsize=10)
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "before_after.png", dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
