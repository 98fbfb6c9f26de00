"""`clclip detect` on a folder of images: python benchmarks/detect_images.py [--quick] [--model M].

Images of the cluttered world, read, detected in, drawn and written: one at a time, as up to commit
84c3a76 (every image opened once before, to see that it is whole), and in batches, read ahead and
written by threads; beside F-ViT, and beside what one would pick instead, torchvision's
``fasterrcnn_mobilenet_v3_large_320_fpn`` (random weights), read and drawn in the same way. On a CPU
``images/s`` is by the seconds of the processor; threads help on the clock besides.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
import torch
import worlds
from torchvision.models import detection as torchvision_detection

from clclip.clip.canvas import to_tensor
from clclip.clip.ids import text_file
from clclip.clip.text import embed_text
from clclip.core.files import write_text
from clclip.core.task import clip_dir
from clclip.data.images import inspect
from clclip.data.own_images import find_images
from clclip.detection.stages.build import build_detector
from clclip.detection.weights import save_weights
from clclip.model.load import load_model
from clclip.model.use.answers import Detections
from clclip.model.use.detect import detect
from clclip.model.use.detection import THRESHOLD, DetectionModel
from clclip.model.use.drawing import drawn
from clclip.model.use.pictures import Picture, opened, prepared
from clclip.workflow.plan import plan_run

BATCHES = (1, 4, 16)


def untrained(folder: Path, method: str = "clclip") -> Path:
    """Write a run of a method whose only task was never trained; return its seed's folder."""
    worlds.embedded_clip()
    name = f"clutter20_10_10_{method}"
    planned = plan_run({"experiments": [name], "seeds": [0]}).task(name, 0, 1)
    task = planned.payload
    place = folder / f"results/untrained_{method}/seed0/task1"
    write_text(place / "task.json", planned.json + "\n")
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


class Torchvision:
    """torchvision's small detector with random weights on images of one's own.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int) -> None:
        make = torchvision_detection.fasterrcnn_mobilenet_v3_large_320_fpn
        self.network = make(weights=None, weights_backbone=None, num_classes=classes + 1).eval()
        self.names = ["background", *(f"class {k}" for k in range(classes))]

    @torch.no_grad()
    def detect(self, files: list[Path], out: Path, batch: int) -> None:
        """Read, detect, draw and write, the images read ahead as ``clclip detect`` reads them."""

        def ready(picture: Picture) -> tuple[torch.Tensor, Picture]:
            return to_tensor(picture.image).float() / 255, picture

        for made in prepared(files, ready, batch, None):
            _, pairs = zip(*made, strict=True)
            found = self.network([pixels for pixels, _ in pairs])
            for own, (_, picture) in zip(found, pairs, strict=True):
                assert picture.path is not None
                labels = own["labels"].numpy()
                answer = Detections(
                    own["boxes"].numpy(),
                    own["scores"].numpy(),
                    labels,
                    [self.names[label] for label in labels],
                    width=picture.image.width,
                    height=picture.image.height,
                    path=str(picture.path),
                )
                drawing = drawn(picture.image, answer.chosen(answer.scores >= THRESHOLD))
                drawing.save(out / f"{Path(picture.path).stem}.png", compress_level=1)


def on_clock(run: Callable[[], object], clock: list[float]) -> Callable[[], None]:
    """Return a call that notes the seconds of the clock that it took."""

    def timed() -> None:
        start = time.perf_counter()
        run()
        clock.append(time.perf_counter() - start)

    return timed


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
        model, out = load_model(place, resources=worlds.HOME), Path(work)
        assert isinstance(model, DetectionModel)
        alone, theirs = out / "alone", out / "torchvision"  # `detect` writes over nobody's files
        alone.mkdir()
        theirs.mkdir()
        contestants: dict[str, Callable[[], object]] = {
            "one at a time, as before": lambda: one_at_a_time(model, files, alone)
        }
        for batch in BATCHES:
            contestants[f"batches of {batch}"] = lambda batch=batch: detect(  # type: ignore[misc]
                place, files, out / str(batch), batch=batch, resources=worlds.HOME
            )
        fvit, rival = untrained(Path(work), "fvit"), Torchvision(10)
        contestants |= {
            "F-ViT": lambda: detect(
                fvit, files, out / "fvit", batch=BATCHES[-1], resources=worlds.HOME
            ),
            "torchvision": lambda: rival.detect(files, theirs, BATCHES[-1]),
        }
        clocks: dict[str, list[float]] = {name: [] for name in contestants}
        clocked = {name: on_clock(run, clocks[name]) for name, run in contestants.items()}
        seconds = measure.timed(clocked, chosen.rounds)
        rate = measure.gflops_of_machine()
        floors = {name: measure.floor_ms(run, rate) for name, run in contestants.items()}
    ours = seconds[f"batches of {BATCHES[-1]}"]
    before = seconds["one at a time, as before"]
    rows = [
        {
            "images": name,
            "images/s": len(files) / measure.median(own),
            "x one at a time": measure.ratio(before, own),
            "CL-CLIP's time / its": measure.ratio(ours, own),
            "images/s by the clock": len(files) / measure.median(clocks[name][1:]),
            "floor ms per image": floors[name] / len(files),
        }
        for name, own in seconds.items()
    ]
    measure.write("detect_images", chosen, rows, count=len(files))


if __name__ == "__main__":
    main()
