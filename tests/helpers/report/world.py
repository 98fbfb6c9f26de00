"""Finished runs made up for the tests of the report: files as the stages leave them."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image, ImageDraw

from clclip.evaluation.aggregate import aggregate_experiment, aggregate_seed
from clclip.evaluation.score import score

REST = {"text": {}, "training": {"epochs": 8, "lr": 1e-3}, "switches": {}, "evaluation": {}}
REST |= {"data": {"id": "zoo-1"}, "clip": {"id": "embedded-1"}}
COLOURS = ["crimson", "royalblue", "seagreen", "goldenrod", "mediumorchid", "teal"]
# How likely an object of an earlier class is lost at each later task.
LOSS = {"fvit": 0.6, "fvit_current": 0.35, "clclip": 0.04, "joint": 0.0}


def write(path, value):
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def draw_images(root, names, count, size=128, seed=0):
    """Draw ``count`` images of coloured discs and squares, and return their COCO data set."""
    rng = np.random.default_rng(seed)
    folder = root / "resources" / "data" / "zoo-1"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i in range(count):
        noise = rng.integers(150, 190, (8, 8, 3)).astype(np.uint8)
        image = Image.fromarray(noise).resize((size, size), Image.Resampling.BILINEAR)
        draw = ImageDraw.Draw(image)
        for quarter in rng.permutation(4)[: rng.integers(1, 5)]:
            k, side = int(rng.integers(len(names))), int(rng.integers(24, 48))
            x, y = (int(v) * 64 + int(rng.integers(0, 64 - side)) for v in divmod(int(quarter), 2))
            shape = [draw.ellipse, draw.rectangle][k // len(COLOURS) % 2]
            shape((x, y, x + side, y + side), fill=COLOURS[k % len(COLOURS)])
            annotations.append(
                {"image_id": 10 + i, "category_id": 5 + k, "bbox": [x, y, side, side]}
            )
        image.save(folder / "images" / f"{i:04d}.png")
        images.append({"id": 10 + i, "file_name": f"{i:04d}.png", "width": size, "height": size})
    write(folder / "index.json", {"id": "zoo-1", "root": "images", "classes": names})
    write(
        root / "resources" / "clip" / "embedded-1" / "clip.json",
        {"id": "embedded-1", "model": "small", "tag": None, "source": "shipped with the package"},
    )
    return {
        "images": images,
        "categories": [{"id": 5 + k, "name": name} for k, name in enumerate(names)],
        "annotations": [a | {"id": n, "area": 900} for n, a in enumerate(annotations)],
    }


def predict(truth, groups, method, task, rng):
    """Return detections as a method with a known rate of forgetting would make them."""
    seen = [n for group in groups[:task] for n in group]
    ids = {c["name"]: c["id"] for c in truth["categories"]}
    age = {ids[n]: task - 1 - g for g, group in enumerate(groups[:task]) for n in group}
    rows = []
    for item in truth["annotations"]:
        if item["category_id"] not in age:
            continue
        gone = 1 - (1 - LOSS[method]) ** age[item["category_id"]]
        if rng.random() < 0.03:
            continue
        box = (np.array(item["bbox"]) + rng.normal(0, 1.2, 4)).round(1).tolist()
        category, high = item["category_id"], float(rng.beta(9, 2))
        if rng.random() < gone:
            kind = rng.integers(4)
            if kind == 0:
                continue
            if kind == 1:
                box[0] += 30
            if kind == 2:
                category = ids[str(rng.choice(groups[task - 1]))]
            if kind == 3:
                high *= 0.2
        rows.append(
            {"image_id": item["image_id"], "category_id": category, "bbox": box, "score": high}
        )
    for image in truth["images"]:
        if rng.random() < 0.5:
            box = [*rng.integers(0, 80, 2).tolist(), *rng.integers(20, 48, 2).tolist()]
            category, low = ids[str(rng.choice(seen))], float(rng.beta(2, 6))
            rows.append(
                {"image_id": image["id"], "category_id": category, "bbox": box, "score": low}
            )
    return rows


def run(root, name, method, groups, truth, seeds=(0,), protocol=None):
    """Write a whole detection experiment and return its summary.json."""
    folder, summaries = root / "results" / name, []
    for seed in seeds:
        steps = [len(groups)] if method == "joint" else range(1, len(groups) + 1)
        rng = np.random.default_rng([seed, len(name)])
        dirs = []
        for number, step in enumerate(steps, start=1):
            here = folder / f"seed{seed}" / f"task{number}"
            task = {"kind": "detection", "method": method, "seed": seed, "task": number}
            task |= {"trains": "all"} if method == "joint" else {}
            own = {"switches": {"gate": "sigmoid"} if method == "clclip" else {}}
            write(here / "task.json", task | {"groups": groups[:step]} | REST | own)
            write(here / "test.json", truth)
            write(here / "predictions.json", predict(truth, groups, method, step, rng))
            score(here / "task.json")
            for stage, seconds in (("train", 41.5 + 9 * step), ("predict", 3.2), ("score", 0.6)):
                log = here / "logs" / f"{stage}.log"
                log.parent.mkdir(exist_ok=True)
                log.write_text(
                    f"noise\nx INFO clclip: done stage={stage} seconds={seconds} peak_mib=812\n"
                )
            dirs.append(here)
        aggregate_seed(dirs, folder / f"seed{seed}" / "summary.json", name, "zoo", protocol)
        summaries.append(folder / f"seed{seed}" / "summary.json")
    aggregate_experiment(summaries, folder / "summary.json")
    return folder / "summary.json"


def classify(root, name, method, groups, keep, seeds=(0,)):
    """Write a whole classification experiment and return its summary.json."""
    folder, summaries = root / "results" / name, []
    labels = [n for group in groups for n in group for _ in range(10)]
    images = [{"id": i, "file_name": f"{i}.png", "label": n} for i, n in enumerate(labels)]
    data = root / "resources" / "data" / "birds-1"
    (data / "images").mkdir(parents=True, exist_ok=True)
    write(data / "index.json", {"id": "birds-1", "root": "images", "classes": sorted(set(labels))})
    for i, label in enumerate(labels):
        colour = COLOURS[sorted(set(labels)).index(label) % len(COLOURS)]
        Image.new("RGB", (64, 64), colour).save(data / "images" / f"{i}.png")
    for seed in seeds:
        rng = np.random.default_rng([seed, 7])
        dirs = []
        for number in range(1, len(groups) + 1):
            here = folder / f"seed{seed}" / f"task{number}"
            task = {"kind": "classification", "method": method, "seed": seed, "task": number}
            task |= {"groups": groups[:number]} | REST | {"data": {"id": "birds-1"}}
            write(here / "task.json", task)
            seen = [n for group in groups[:number] for n in group]
            own = [image for image in images if image["label"] in seen]
            write(here / "test.json", {"classes": seen, "images": own})
            rows = rng.random((len(own), len(seen))) * 0.5
            for row, image in zip(rows, own, strict=True):
                age = number - 1 - next(g for g, x in enumerate(groups) if image["label"] in x)
                row[seen.index(image["label"])] += rng.random() < keep ** (age + 0.5)
            rows /= rows.sum(1, keepdims=True)
            data = {"classes": seen, "images": [i["id"] for i in own]}
            data |= {"labels": [i["label"] for i in own], "probabilities": rows.tolist()}
            write(here / "predictions.json", data)
            score(here / "task.json")
            record(here, groups[:number], method == "seca", rng)
            dirs.append(here)
        aggregate_seed(dirs, folder / f"seed{seed}" / "summary.json", name, "birds", "8x5")
        summaries.append(folder / f"seed{seed}" / "summary.json")
    aggregate_experiment(summaries, folder / "summary.json")
    return folder / "summary.json"


def record(folder, groups, refines, rng, width=16):
    """Write a classification task's weights: what the report reads of them."""
    from safetensors.numpy import save_file

    new, seen = len(groups[-1]), sum(map(len, groups))

    def unit(rows):
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    raw = unit(rng.normal(1.0, 0.5, (new, width)))
    tensors = {"raw": raw, "prompt": np.zeros((2, 3), np.float32)}
    if refines:
        tensors["refined"] = unit(raw - raw.mean())
        logits = rng.normal(0, 1, (seen, seen)) + 4 * np.eye(seen)
        tensors["affinity"] = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype("f4")
        pool = list(range(1, len(groups)))
        if pool:
            tensors["relevance"] = rng.dirichlet(np.ones(len(pool)), new).astype(np.float32)
            tensors["relevance_tasks"] = np.array(pool)
    save_file(tensors, folder / "weights.safetensors")


def store_features(root, truth, names):
    """Write a feature store and text embeddings in which class k's token is the k-th axis."""
    from safetensors.numpy import save_file

    from clclip.clip.ids import text_file
    from clclip.core.task import read_task

    store = root / "resources" / "features" / "f" / "test"
    store.mkdir(parents=True)
    dense = np.full((len(truth["images"]), len(names), 16, 16), 0.02, np.float16)
    place = {image["id"]: k for k, image in enumerate(truth["images"])}
    for item in truth["annotations"]:
        x, y, w, h = (round(v / 8) for v in item["bbox"])
        dense[place[item["image_id"]], item["category_id"] - 5, y : y + h, x : x + w] = 0.4
    np.save(store / "dense.npy", dense)
    sizes = [[image["width"], image["height"]] for image in truth["images"]]
    marker = {"images": list(place), "extents": sizes, "size": 128, "stride": 8}
    write(store / "done.json", marker)
    for task_file in sorted((root / "results").rglob("task.json")):
        task = json.loads(task_file.read_text())
        if task["kind"] == "detection":
            features = {"id": "f", "cache": True, "size": 128, "dense": "tokens", "taps": [1]}
            write(task_file, task | {"features": features})
            path = text_file(read_task(task_file), root / "resources")
            path.parent.mkdir(exist_ok=True)
            seen = [n for group in task["groups"] for n in group]
            rows = np.eye(len(names), dtype=np.float32)[[names.index(n) for n in seen]]
            save_file({"text": rows}, path)
