"""Fuzz: whatever a file holds, the answer is a plan, a data set, a split - or one InputError.

Runs a bounded number of examples; CLCLIP_FUZZ=N runs N per test (see ``docs/robustness.md``).
"""

import copy
import json
import os
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clclip.config.load import read_experiment
from clclip.core.errors import InputError
from clclip.core.files import read_json
from clclip.data.readers.class_names import written_names
from clclip.data.readers.coco import read_coco
from clclip.data.readers.voc import read_splits as read_voc
from clclip.data.split import split_task
from clclip.workflow.plan import RunPlan, add_experiment, plan_run
from tests.helpers.bad_input.world import DETECTION, coco, picture

EXAMPLES = int(os.environ.get("CLCLIP_FUZZ", "0"))


def bounded(count: int):
    """Return the settings of a test: its own number of examples, or CLCLIP_FUZZ of them."""
    return settings(
        max_examples=EXAMPLES or count,
        deadline=timedelta(seconds=10),  # no hang
        suppress_health_check=list(HealthCheck),
        derandomize=EXAMPLES == 0,
    )


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=12)
    | st.sampled_from(["", "ace", "1e-4", "../x", "a\0b", "\ud800", "NaN", "~", "x" * 300, "yes"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def paths(value, prefix=()):
    """Return the path of every node below ``value``."""
    found = []
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        found.append((*prefix, key))
        if isinstance(inner, dict | list):
            found += paths(inner, (*prefix, key))
    return found


@st.composite
def mutated(draw, value):
    """Draw ``value`` with up to three of its nodes replaced, removed or doubled."""
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        places = paths(value)
        if not places:
            break
        *above, key = draw(st.sampled_from(places))
        target = value
        for step in above:
            target = target[step]
        action = draw(st.sampled_from(["replace", "replace", "remove", "double"]))
        if action == "replace":
            target[key] = draw(VALUES)
        elif action == "remove":
            del target[key]
        elif isinstance(target, list):
            target.append(copy.deepcopy(target[key]))
        else:
            target[draw(st.text(max_size=8))] = target[key]
    return value


@pytest.fixture(scope="module")
def home():
    """A folder with the cards' images and annotations."""
    folder = Path(tempfile.mkdtemp(prefix="clclip-fuzz-"))
    for split in ("train", "test"):
        for k in (1, 2, 3):
            picture(folder / "cards/images" / f"{split}{k}.png")
        (folder / "cards" / f"{split}.json").write_text(json.dumps(coco(split)))
    yield folder
    shutil.rmtree(folder)


def answered(work):
    """Run ``work``; anything but a result or an InputError of one line fails the test."""
    try:
        return work()
    except InputError as error:
        assert "\n" not in str(error) and error.what and error.where and error.expected
        return None


def plan(path: Path):
    """Return the plan of one experiment file."""
    experiment, folder = read_experiment(path)
    return add_experiment(RunPlan(), experiment, experiment.seeds[:2], folder, path)


@bounded(150)
@given(values=mutated(DETECTION))
def test_experiment_files(home, values):
    path = home / "mine.yaml"
    try:
        text = yaml.safe_dump(values, allow_unicode=True)
        path.write_text(text, encoding="utf-8")
    except (yaml.YAMLError, UnicodeEncodeError):
        path.write_text(json.dumps(values), encoding="utf-8")
    answered(lambda: plan(path))


@bounded(150)
@given(content=st.binary(max_size=60) | st.text(alphabet="{}[]:,&*!|>-? \n#'\"ab1%@", max_size=60))
def test_experiment_files_of_noise(home, content):
    path = home / "noise.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    answered(lambda: plan(path))


RUN = {"experiments": ["smoke_fvit"], "seeds": [0], "report": {"title": "x", "dpi": 90}}


@bounded(100)
@given(values=mutated(RUN) | mutated({**RUN, "experiments": "smoke_fvit,smoke_clclip"}))
def test_run_configs(home, values):
    answered(lambda: plan_run(values, [home]))


@bounded(200)
@given(values=mutated(coco("train")))
def test_coco_annotations(home, values):
    path = home / "fuzzed.json"
    path.write_text(json.dumps(values))
    found = answered(lambda: read_coco(path, home))
    if found is not None:
        assert len({image["id"] for image in found.images}) == len(found.images)
        names = [category["name"] for category in found.categories]
        assert names and len(set(names)) == len(names)


@bounded(100)
@given(content=st.binary(max_size=80))
def test_annotations_of_noise(home, content):
    path = home / "noise.json"
    path.write_bytes(content)
    answered(lambda: read_coco(path, home))
    answered(lambda: read_json(path))


NODES = "annotation object name bndbox xmin ymin xmax ymax size width height difficult x".split()


@st.composite
def xml(draw, depth=0):
    """Draw an XML element of VOC's words in any order."""
    tag = draw(st.sampled_from(NODES)) if depth else "annotation"
    if depth > 2 or draw(st.booleans()):
        word = st.sampled_from(["1", "-3", "nan", "1e9", "", "ace", "1e400", " 5 "])
        return f"<{tag}>{draw(word | st.text('ab<&1', max_size=3))}</{tag}>"
    inner = "".join(draw(st.lists(xml(depth=depth + 1), max_size=4)))
    return f"<{tag}>{inner}</{tag}>"


@bounded(150)
@given(text=xml(), lines=st.text(alphabet="ab 1-\n\0/.", max_size=12))
def test_voc_annotations(home, text, lines):
    root = home / "voc"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "Annotations/a.xml").write_text(text)
    (root / "ImageSets/Main/trainval.txt").write_text("a\n")
    (root / "ImageSets/Main/test.txt").write_text(lines)
    spec = {"format": "voc", "root": str(root), "train": "trainval", "test": "test"}
    answered(lambda: read_voc(spec))
    answered(lambda: read_voc({**spec, "test": "trainval"}))


@bounded(60)
@given(content=st.text(max_size=40) | VALUES.map(lambda value: json.dumps(value)))
def test_class_name_files(home, content):
    for name in ("names.txt", "names.json", "names.yaml"):
        (home / name).write_bytes(content.encode("utf-8", "surrogatepass"))
        spec = {"root": str(home), "class_names": name}
        answered(lambda spec=spec: written_names(spec, ["n1", "n2"], ["n1", "n2"]))


TASK = {
    "kind": "detection",
    "method": "clclip",
    "seed": 0,
    "task": 2,
    "groups": [["ace", "jack"], ["queen"]],
    "text": {},
    "data": {"id": "cards", "format": "coco", "image_rule": "disjoint"},
    "clip": {"id": "x"},
    "training": {},
    "switches": {},
    "evaluation": {},
}
INDEX = {
    "id": "cards",
    "kind": "detection",
    "root": "images",
    "classes": ["ace", "jack", "queen", "ten"],
    "splits": {"train": "train.json", "test": "test.json"},
}
FILES = st.sampled_from(["task.json", "index.json", "train.json", "test.json"])


@bounded(200)
@given(name=FILES, data=st.data())
def test_task_split(home, name, data):
    task, index = home / "results/task2/task.json", home / "resources/data/cards/index.json"
    whole = {
        task: TASK,
        index: INDEX,
        index.with_name("train.json"): coco("train"),
        index.with_name("test.json"): coco("test"),
    }
    for path, value in whole.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        value = data.draw(mutated(value)) if path.name == name else value
        path.write_text(json.dumps(value))
    for old in task.parent.glob("t*t*.json"):
        if old != task:
            old.unlink()
    if answered(lambda: split_task(task, home / "resources") or True):
        made = json.loads((task.parent / "train.json").read_text())
        assert made["images"] and {"categories", "annotations"} <= made.keys()
