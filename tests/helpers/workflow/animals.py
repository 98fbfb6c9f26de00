"""A small data set to edit, and streams on it whose training is a stand-in; the store is real."""

import json
import random

from PIL import Image

from clclip.config.experiment import Experiment
from clclip.data.prepare import prepare
from clclip.data.split import split_task
from clclip.workflow.plan import RunPlan, add_experiment
from clclip.workflow.task_store import stored

ONE_EACH = {"cat": [1, 2], "dog": [3, 4], "cow": [5, 6]}  # class -> its training images


def picture(path, seed, size=(24, 20)):
    """Write noise of a seed of its own; as BMP all have the same number of bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1])).save(path)


class Animals:
    """A COCO data set that can be edited, and a stream on it whose training is a stand-in."""

    def __init__(self, home, suffix="png"):
        self.home, self.root, self.suffix = home, home / "animals", suffix
        self.indent, self.places = None, {}
        self.names = ["cat", "dog"]
        self.splits = {"train": {}, "test": {}}  # image number -> [(class, box)]
        for name in self.names:
            self.add(name)

    def add(self, name):
        """Take in the images and boxes of a class."""
        for number in ONE_EACH[name]:
            for split in self.splits:
                self.splits[split][number] = [(name, [2, 2, 8, 8])]
                picture(self.file(split, number), f"{split} {number}")
        self.names = [*dict.fromkeys([*self.names, name])]

    def file(self, split, number):
        return self.root / "images" / f"{split}{number}.{self.suffix}"

    def write(self):
        categories = [{"id": k, "name": name} for k, name in enumerate(self.names, 1)]
        for split, labels in self.splits.items():
            entries = [
                {"id": n, "file_name": self.file(split, n).name, "width": 24, "height": 20}
                | ({"place": self.places[n]} if n in self.places else {})
                for n in labels
            ]
            boxes = [
                {"image_id": n, "category_id": self.names.index(name) + 1, "bbox": box}
                for n, own in labels.items()
                for name, box in own
            ]
            boxes = [{"id": k, **one} for k, one in enumerate(boxes, 1)]
            content = {"images": entries, "annotations": boxes, "categories": categories}
            text = json.dumps(content, indent=self.indent)
            (self.root / f"{split}.json").write_text(text)

    def experiment(self, **changes):
        """Write the data set; return an empty plan and an experiment on it."""
        self.write()
        given = {
            "name": "mine",
            "kind": "detection",
            "method": "fvit_replay",
            "data": {"format": "coco", "root": str(self.root), "images": "images"},
            "tasks": [["cat"], ["dog"]],
        }
        given["data"] |= {"train": "train.json", "test": "test.json"} | changes.pop("data", {})
        return RunPlan(), Experiment(**(given | changes))

    def planned(self, **changes):
        """Write the data set; return the plan of a run, and the experiment in it."""
        plan, experiment = self.experiment(**changes)
        return plan, add_experiment(plan, experiment, [0], self.home, "mine")

    def plan(self, **changes):
        """Split the tasks of an experiment; return their folders."""
        plan, planned = self.planned(**changes)
        (spec,) = plan.data.values()
        out = self.home / "resources" / "data" / spec["id"]
        if not out.exists():
            prepare(spec, out)
        return write_tasks(planned, self.home)

    def trained(self, stage="train", **changes):
        """Run a stage of all tasks; return the numbers of those that were not in the store."""
        return run_stage(self.plan(**changes), self.home, stage)


def write_tasks(planned, home):
    folders = []
    for task in planned.tasks.values():
        folder = home / task.folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "task.json").write_text(task.json)
        split_task(folder / "task.json", home / "resources")
        folders.append(folder)
    return folders


def run_stage(folders, home, stage, code="a"):
    """Make a file of every task that holds what it was made of, through the store."""
    name, done = {"train": "weights.safetensors", "predict": "predictions.json"}[stage], []
    for number, folder in enumerate(folders, 1):

        def work(folder=folder, number=number):
            done.append(number)
            (folder / name).write_text(f"{stage} {number} {random.random()}")

        stored(folder / "task.json", home / "resources", stage, code, [name], work)
    return done
