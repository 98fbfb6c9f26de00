"""Options that training does not read, tried: other values, and not a bit of the weights differs.

The task store takes a registry's word for it (``Method.inference``), so that a run with another
threshold does not train again. Where training detects with an earlier model they do matter.
"""

import json

import pytest
import yaml
from safetensors import safe_open

from clclip.core.kind import Method
from clclip.detection.registry import METHODS
from clclip.workflow.task_store import trained_switches, training_slice
from tests.helpers.model import NAMES, draw_boxes, plan_of, train, write_experiment

GROUPS = [NAMES[:2], NAMES[2:4]]
OTHER = {
    "proposals_test": 7,
    "score_threshold": 0.3,
    "nms": 0.2,
    "detections": 3,
    "fusion": 0.4,
    "fusion_score": "share",
    "fusion_temperature": 5.0,
    "route_cap": 1,
    "route_probability": 0.5,
    "objectness": 0.6,
}
# short, and with what lets an option count: a teacher's proposals are more than ``OTHER`` gives
SWITCHES = {"proposals_test": 40, "score_threshold": 0.0, "nms": 0.9, "detections": 100}
QUICK = {"fvit_ior": {"invert_objects": 1, "invert_steps": 2, "invert_size": 32}}
QUICK |= {"clclip": {"route": "text"}, "fvit_replay": {"memory": 8}}
ASKED = {"relegation_guard": "pseudo", "guard_threshold": 0.0, "guard_overlap": 1.0}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with data, whose runs share CLIP, texts and features."""
    home = tmp_path_factory.mktemp("options")
    draw_boxes(home / "boxes", NAMES, count=8)
    draw_boxes(home / "shifted", NAMES, count=8)
    shift_numbers(home / "shifted")
    return home


def shift_numbers(root):
    """Give boxes and categories other numbers, as one more class may."""
    for split in ("train", "test"):
        path = root / f"{split}.json"
        content = json.loads(path.read_text())
        for box in content["annotations"]:
            box["id"] += 1000
            box["category_id"] = 90 - box["category_id"]
        for category in content["categories"]:
            category["id"] = 90 - category["id"]
        path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def weights(work):
    """Return a function that trains two tasks; the tensors of both, as bytes."""
    made = {}

    def tensors(method, root="boxes", **switches):
        given = SWITCHES | QUICK.get(method, {}) | switches
        if method == "clclip" and "relegation_guard" in given:
            given |= {"shared": "free"}
        name = f"{method}_{len(made)}"
        data = {"format": "coco", "root": root, "images": "images"}
        data |= {"train": "train.json", "test": "test.json"}
        keys = {"method": method, "tasks": GROUPS, "switches": given, "data": data}
        path = write_experiment(work, name, **keys)
        key = path.read_text().replace(name, "")
        if key not in made:
            seed, made[key] = train(path), {}
            for file in sorted(seed.glob("task*/weights.safetensors")):
                with safe_open(file, "pt") as stored:
                    for tensor in stored.keys():
                        value = stored.get_tensor(tensor).contiguous().numpy().tobytes()
                        made[key][file.parent.name, tensor] = value
        return made[key]

    return tensors


def options_of(method: str) -> set[str]:
    return set(METHODS[method].options.model_fields)


READERS = [name for name, one in METHODS.items() if one.inference]


@pytest.mark.parametrize("method", READERS)
def test_what_a_registry_calls_unread_changes_no_weight(weights, method):
    other = {key: OTHER[key] for key in METHODS[method].inference}
    assert set(other) <= options_of(method)
    before, after = weights(method), weights(method, **other)
    assert before == after and len(before) > 10


@pytest.mark.parametrize("method", [name for name in METHODS if name != "clclip_paper"])
def test_numbers_of_boxes_and_categories_change_no_weight(weights, method):
    """The store looks away from them where a registry says ``numbers: images``."""
    assert METHODS[method].numbers == {"images"}
    assert weights(method) == weights(method, root="shifted")


@pytest.mark.parametrize("method", ["fvit_mma", "fvit_replay", "fvit_ior", "fvit_proto"])
def test_a_teacher_proposes_by_proposals_test(weights, method):
    assert "proposals_test" not in METHODS[method].inference
    before, after = weights(method), weights(method, proposals_test=OTHER["proposals_test"])
    differs = {task for task, name in before if before[task, name] != after[task, name]}
    assert differs == {"task2"}


def test_pseudo_labels_are_detections(weights):
    given = {"pseudo_threshold": 0.0, "guard_overlap": 1.0}
    assert not METHODS["fvit_pseudo"].inference
    before = weights("fvit_pseudo", **given)
    after = weights("fvit_pseudo", **given, detections=OTHER["detections"])
    assert before != after


@pytest.mark.parametrize("method", ["fvit", "fvit_current", "fvit_mma", "fvit_proto", "clclip"])
def test_with_a_guard_all_options_are_read(weights, method):
    assert weights(method, **ASKED) != weights(method, **ASKED, detections=OTHER["detections"])
    assert METHODS[method].unread_in_training(ASKED) == frozenset()


def test_every_method_with_a_teacher_that_may_detect_says_so():
    for name in READERS:
        assert METHODS[name].detects["relegation_guard"] == ("ignore", "pseudo"), name
    accepting = {"invert_accept": True}
    assert METHODS["fvit_ior"].unread_in_training(accepting) == frozenset()
    assert METHODS["fvit_ior"].unread_in_training({}) == METHODS["fvit_ior"].inference


def test_a_new_method_reads_everything_until_somebody_has_looked():
    facts = Method("detection.methods.fvit.FViT", METHODS["fvit"].options, "New")
    assert facts.unread_in_training({}) == frozenset()


def slices(path, **switches):
    """Return the training slices of both tasks of an experiment with other switches."""
    content = yaml.safe_load(path.read_text())
    content["switches"] = content["switches"] | switches
    path = path.with_name("changed.yaml")
    path.write_text(yaml.safe_dump(content))
    tasks = [task.payload for task in plan_of(path)[1].tasks.values()]
    slices = [training_slice(task) for task in tasks]
    return [{**one, "switches": trained_switches(one)} for one in slices]


@pytest.mark.parametrize("key", sorted(OTHER))
def test_the_slice_of_training_is_the_same_without_such_an_option(work, key):
    softened = key == "fusion_temperature"  # F-ViT's alone
    path = write_experiment(work, "plain", method="fvit" if softened else "clclip", tasks=GROUPS)
    base = {"fusion": 0.2} if softened else {"route": "text"}
    base |= {"fusion": 0.2} if key == "fusion_score" else {}
    assert slices(path, **base) == slices(path, **base, **{key: OTHER[key]})
    guarded = base | {"relegation_guard": "ignore"} | ({} if softened else {"shared": "free"})
    one, other = slices(path, **guarded), slices(path, **guarded, **{key: OTHER[key]})
    assert one[0] == other[0] and one[1] != other[1]


def test_the_slice_of_a_run_by_default_is_what_it_was(work):
    path = write_experiment(work, "plain", method="clclip", tasks=GROUPS)
    content = yaml.safe_load(path.read_text())
    del content["switches"]
    path.write_text(yaml.safe_dump(content))
    for task in plan_of(path)[1].tasks.values():
        assert (
            trained_switches(training_slice(task.payload))
            == (training_slice(task.payload)["switches"])
        )
