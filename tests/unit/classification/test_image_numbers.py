"""Numbers of images: what a method says it does not read, another class folder may shift."""

import pytest
from safetensors import safe_open

from clclip.classification.registry import METHODS
from tests.helpers.model import NAMES, draw_folders, train, write_experiment

FREE = [name for name, one in METHODS.items() if not one.numbers and one.trains == "last"]
# short; replay draws from stored images' statistics
QUICK = {
    "vis": {"mixer_epochs": 1, "mixer_width": 16, "random_features": 20},
    "rapf": {"epochs": 1},
}


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Return the tensors of a method's tasks, with ids as they are or shifted by a class folder."""
    homes = {}
    for shifted in (False, True):
        homes[shifted] = tmp_path_factory.mktemp("numbers")
        draw_folders(homes[shifted] / "folders", NAMES[:2] + NAMES[3:4] * shifted)

    def tensors(method, shifted):
        given = {"method": method, "tasks": [["red square"], ["green square"]]}
        given |= {"switches": QUICK[method]} if method in QUICK else {}
        path = write_experiment(homes[shifted], method, kind="classification", **given)
        result = {}
        for file in sorted(train(path).glob("task*/weights.safetensors")):
            with safe_open(file, "np") as stored:
                for name in stored.keys():
                    result[file.parent.name, name] = stored.get_tensor(name).tobytes()
        return result

    return tensors


@pytest.mark.parametrize("method", FREE)
def test_ids_that_shift_change_no_record(records, method):
    plain, shifted = records(method, False), records(method, True)
    assert plain == shifted and {task for task, _ in plain} == {"task1", "task2"}


def test_closed_forms_draw_folds_by_id():
    assert "images" in METHODS["seca_cov"].numbers & METHODS["ridge"].numbers and len(FREE) >= 7
