"""An epoch with and without the feature cache: python benchmarks/feature_cache.py [--quick].

CL-CLIP's task 1 on shapes scenes, flips on, with the shipped head: batches from the store, or with
the frozen tower run as training goes. The embedded tower at 128 px, and ViT-B/16 with random
weights at 224 px (its speed does not depend on them). The time to build the store stands beside.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import open_clip
import torch
import worlds

from clclip.clip import load
from clclip.clip.features import FeatureStore, build_features
from clclip.clip.load import LoadedClip
from clclip.clip.text import text_embeddings
from clclip.detection.inputs.dataset import FeatureBatches, read_labels
from clclip.detection.inputs.online import OnlineFeatures
from clclip.detection.layers.batch import Batch
from clclip.detection.methods.clclip.detector import ClClip
from clclip.detection.methods.detector import DetectorInputs
from clclip.detection.options.clclip import ClClipOptions

BATCH = 8


def vit_b_16() -> LoadedClip:
    """Return a ViT-B/16 with random weights; nothing is downloaded."""
    model = open_clip.create_model("ViT-B-16", load_weights=False).eval().requires_grad_(False)
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    tokenizer = open_clip.get_tokenizer("ViT-B-16")
    return LoadedClip(model, tokenizer, 224, mean, std, 512, 16, "ViT-B-16")


def epoch(step: Callable[[Batch], None], batches: FeatureBatches) -> Callable[[], None]:
    """Return a function that trains over all images once."""

    def run() -> None:
        order = batches.order(0)
        for start in range(0, len(order), BATCH):
            step(batches.training(0, order[start : start + BATCH]))

    return run


def compared(
    clip: LoadedClip, home: Path, size: int, dense: str, taps: list[int], count: int, rounds: int
) -> dict[str, Any]:
    """Measure one tower."""
    world = worlds.world_folder("shapes20")
    data = _first_images(world, home / "data", count)
    real, load.load_clip = load.load_clip, lambda folder: clip
    try:
        start = measure.clock()
        build_features(data, home, "train", home / "store", size, dense, taps, True)
        built = measure.clock() - start
        store = FeatureStore(home / "store")
        names = json.loads((data / "index.json").read_text())["classes"]
        images = read_labels(data / "train.json", names)
        root = data / "images"
        found = json.loads((data / "train.json").read_text())["images"]
        files = {i["id"]: (root / i["file_name"], True) for i in found}
        online = OnlineFeatures(home, files, size, dense, taps)
    finally:
        load.load_clip = real
    text = text_embeddings(clip, names)
    torch.manual_seed(0)
    inputs = DetectorInputs(store.width, store.stride, [names], text, text[:2], 0)
    model = ClClip(inputs, ClClipOptions(scales=(2.0, 1.0, 0.5)))
    trained = trainer(model)
    runs = {
        name: epoch(trained, FeatureBatches(images, source, (0, 1), "flip"))
        for name, source in (("cached", store), ("online", online))
    }
    seconds = measure.timed(runs, rounds, warm=1)
    per = {name: 1e3 * measure.median(own) / count for name, own in seconds.items()}
    rate = measure.gflops_of_machine()
    floors = {name: measure.floor_ms(run, rate) / count for name, run in runs.items()}
    return {
        "tower": f"{clip.name} {size} px",
        "images": count,
        "cached ms per image": per["cached"],
        "online ms per image": per["online"],
        "online / cached": measure.ratio(seconds["online"], seconds["cached"]),
        "floor, cached": floors["cached"],
        "floor, online": floors["online"],
        "build ms per image, both flips": 1e3 * built / count,
        "MB per image": sum(p.stat().st_size for p in store.folder.glob("*.npy")) / count / 1e6,
    }


def trainer(model: ClClip) -> Callable[[Batch], None]:
    """Return a function that takes one step on a batch."""
    model.begin_task()
    parameters = list(model.trained().values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        torch.stack([v.float() for v in model.losses(batch).values()]).sum().backward()
        optimizer.step()

    return step


def _first_images(world: Path, out: Path, count: int) -> Path:
    """Write an index of the first training images of a world."""
    out.mkdir(parents=True)
    data = json.loads((world / "train.json").read_text())
    data["images"] = data["images"][:count]
    kept = {image["id"] for image in data["images"]}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
    (out / "train.json").write_text(json.dumps(data))
    index = json.loads((world / "index.json").read_text())
    (out / "images").symlink_to((world / "images").resolve())
    (out / "index.json").write_text(json.dumps(index))
    return out


def main() -> None:
    """Measure and write feature_cache.json."""
    chosen = measure.options(__doc__)
    count = BATCH if chosen.quick else 4 * BATCH
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        embedded = worlds.embedded_clip()
        cases = [(embedded, 128, "tokens", [1, 2, 3])]
        if not chosen.quick:
            cases.append((vit_b_16(), 224, "catseg", [5, 7, 11]))
        for k, (clip, size, dense, taps) in enumerate(cases):
            home = Path(folder) / str(k)
            home.mkdir()
            rows.append(compared(clip, home, size, dense, taps, count, chosen.rounds))
    measure.write("feature_cache", chosen, rows)


if __name__ == "__main__":
    main()
