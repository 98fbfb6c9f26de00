"""Trained runs and models that the tests of models share; nobody changes them."""

from __future__ import annotations

import pytest

from tests.helpers.model import NAMES, draw_boxes, draw_folders, train, write_experiment

GROUPS = [NAMES[:2], NAMES[2:4]]
BOXES = {"format": "coco", "root": "boxes", "images": "images"}
BOXES |= {"train": "train.json", "test": "test.json"}


@pytest.fixture(scope="session")
def boxes_run(tmp_path_factory):
    """The seed folder of a trained CL-CLIP of two tasks; its data is ``boxes`` four folders up."""
    work = tmp_path_factory.mktemp("boxes_run")
    draw_boxes(work / "boxes", NAMES)
    return train(write_experiment(work, "boxes_run", method="clclip", tasks=GROUPS))


@pytest.fixture(scope="session")
def cards_model(boxes_run, tmp_path_factory):
    """The model folder of ``boxes_run``, with its tower."""
    from clclip.model.export import export

    out = tmp_path_factory.mktemp("models") / "cards"
    export(boxes_run, out, with_tower=True)
    return out


@pytest.fixture(scope="session")
def folders_run(tmp_path_factory):
    """The seed folder of a trained classifier of two tasks."""
    work = tmp_path_factory.mktemp("folders_run")
    draw_folders(work / "folders", NAMES)
    keys = {"kind": "classification", "tasks": GROUPS}
    return train(write_experiment(work, "folders_run", method="seca", **keys))
