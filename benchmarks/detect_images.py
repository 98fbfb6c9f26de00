"""`clclip detect` on a folder of images: python benchmarks/detect_images.py [--quick] [--model M].

Images of the cluttered world, read, detected in, drawn and written: one at a time, as up to commit
84c3a76 (every image opened once before, to see that it is whole), and in batches, read ahead and
written by threads. On a CPU the seconds are those of the processor; threads help on the clock
besides.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import measure
import worlds

from clclip.clip.ids import text_file
from clclip.clip.text import embed_text
from clclip.core.files import write_text
from clclip.core.task import clip_dir
from clclip.data.images import inspect
from clclip.data.own_images import find_images
from clclip.detection.stages.build import build_detector
from clclip.detection.weights import save_weights
from clclip.model.load import load_model
from clclip.model.use.detect import detect
from clclip.model.use.detection import DetectionModel
from clclip.model.use.drawing import drawn
from clclip.model.use.pictures import opened
from clclip.workflow.plan import plan_run

BATCHES = (1, 4, 16)


def untrained(folder: Path) -> Path:
    """Write a run of CL-CLIP whose only task was never trained; return its seed's folder."""
    worlds.embedded_clip()
    plan = plan_run({"experiments": ["clutter20_10_10_clclip"], "seeds": [0]})
    task = plan.task("clutter20_10_10_clclip", 0, 1).payload
    place = folder / "results/untrained/seed0/task1"
    write_text(place / "task.json", plan.task("clutter20_10_10_clclip", 0, 1).json + "\n")
    texts = text_file(task, worlds.HOME)
    embed_text(clip_dir(task, worlds.HOME), [n for g in task["groups"] for n in g], texts)
    detector = build_detector(task, worlds.HOME, 128, 8.0)
    save_weights(place / "weights.safetensors", detector.state_dict(), {})
    return place.parent


def one_at_a_time(model: DetectionModel, files: list[Path], out: Path) -> None:
    """Detect as before: look at every image, then take one after the other."""
    for path in files:
        inspect(path)
    for path in files:
        found = model(path)
        assert not isinstance(found, list)
        drawn(opened(path).image, found).save(out / f"{path.stem}.png")


def main() -> None:
    """Measure and write."""
    chosen = measure.options(
        __doc__,
        model={"type": Path, "default": None, "help": "a model folder or run; default: untrained"},
        images={"type": int, "default": 500, "help": "how many"},
    )
    count = 6 if chosen.quick else chosen.images
    home = worlds.world_folder("clutter20_tiny" if chosen.quick else "clutter20")
    files = find_images([home / "images"])[:count]
    with tempfile.TemporaryDirectory() as work:
        place = chosen.model or untrained(Path(work))
        model, out = load_model(place, resources=worlds.HOME), Path(work) / "boxes"
        assert isinstance(model, DetectionModel)
        out.mkdir()
        contestants: dict[str, Callable[[], object]] = {
            "one at a time, as before": lambda: one_at_a_time(model, files, out)
        }
        for batch in BATCHES:
            contestants[f"batches of {batch}"] = lambda batch=batch: detect(  # type: ignore[misc]
                place, files, out, batch=batch, resources=worlds.HOME
            )
        seconds = measure.timed(contestants, chosen.rounds)
    before = seconds["one at a time, as before"]
    rows = [
        {
            "images": name,
            "images/s": len(files) / measure.median(own),
            "x one at a time": measure.ratio(before, own),
        }
        for name, own in seconds.items()
    ]
    measure.write("detect_images", chosen, rows, count=len(files))


if __name__ == "__main__":
    main()
