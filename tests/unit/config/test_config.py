"""Configuration files: what is accepted, and one line for everything that is not."""

import subprocess
import sys
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.config.experiment import Experiment
from clclip.config.load import find_experiment, read_experiment, read_yaml
from clclip.config.run import RunConfig
from clclip.core.errors import InputError
from clclip.core.models import open_clip_models, parse
from clclip.workflow.plan import RunPlan, add_experiment, plan_run

GOOD = {
    "kind": "detection",
    "method": "clclip",
    "tasks": [["red circle"], ["green circle"]],
}


def write(folder, values, name="mine.yaml"):
    import yaml

    path = folder / name
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


def planned(path):
    experiment, folder = read_experiment(path)
    return add_experiment(RunPlan(), experiment, experiment.seeds, folder, path)


def test_planning_imports_nothing_heavy():
    """What it costs in seconds is measured in benchmarks/startup.py."""
    code = (
        "import sys, clclip.config.experiment, clclip.workflow.plan, clclip.cli.main; "
        "heavy = {'torch', 'torchvision', 'open_clip', 'numpy', 'PIL', 'snakemake'}; "
        "print(*sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_minimal_file_gets_its_name_from_its_stem(tmp_path):
    experiment, folder = read_experiment(write(tmp_path, GOOD))
    assert experiment.name == "mine" and folder == tmp_path and experiment.seeds == [0]


WRONG = {
    "misspelt key": ({"metod": "clclip"}, r"unknown key 'metod' \(did you mean 'method'\?\)"),
    "misspelt nested": ({"data": {"fromat": "coco"}}, r"'fromat' \(did you mean 'format'"),
    "misspelt training": ({"training": {"epoch": 3}}, r"'epoch' \(did you mean 'epochs'"),
    "misspelt switch": ({"switches": {"shard": "free"}}, r"'shard' \(did you mean 'shared'"),
    "unknown kind": ({"kind": "segmentation"}, "'detection' or 'classification'"),
    "unknown method": ({"method": "clcip"}, r"'clcip'.*did you mean 'clclip'"),
    "method of the other kind": ({"method": "seca"}, "unknown method 'seca' for kind 'detection'"),
    "no tasks": ({"tasks": []}, "no task given"),
    "empty task": ({"tasks": [["red circle"], []]}, "task 2 has no classes"),
    "class in two tasks": (
        {"tasks": [["red circle"], ["red circle"]]},
        "class 'red circle' is in task 1 and in task 2",
    ),
    "class twice in a task": (
        {"tasks": [["red circle", "red circle"]]},
        "is in task 1 and in task 1",
    ),
    "blank class": ({"tasks": [[" "]]}, "blank"),
    "control character": ({"tasks": [["red\ncircle"]]}, "control characters"),
    "class is a number": ({"tasks": [[3]]}, "got 3.*in quotes"),
    "class that YAML reads as true": ({"tasks": [[True]]}, "got true .or yes, on.*in quotes"),
    "class that YAML reads as nothing": ({"tasks": [["cat"], [None]]}, "got null.*in quotes"),
    "class that YAML reads as a date": ({"tasks": [[date(2024, 1, 2)]]}, "date.*in quotes"),
    "text that YAML reads as a number": ({"text": {"dog": 3}}, "text.dog, .*in quotes"),
    "tasks and protocol": ({"protocol": "shapes_10_10"}, "either tasks or stream"),
    "neither": (
        {"tasks": None},
        r"neither tasks nor stream, in .*, expected either tasks or stream, e\.g\. tasks: ",
    ),
    "unknown class": ({"tasks": [["red circel"]]}, r"not in the data \(did you mean 'red circle'"),
    "unknown world": ({"data": {"world": "shapes21"}}, r"unknown world 'shapes21'"),
    "world of other kind": ({"data": {"world": "shapes_cil"}}, "a world for detection"),
    "unknown format": ({"data": {"format": "kitti"}}, "'shapes', 'coco', 'voc', 'yolo'"),
    "folder for detection": (
        {"data": {"format": "folder", "root": "x"}},
        "is not for kind 'detection'",
    ),
    "key of another format": ({"data": {"year": "2007"}}, "'year' has no meaning for format"),
    "coco without images": ({"data": {"format": "coco", "root": "x"}}, "needs the key"),
    "missing root": (
        {"data": {"format": "coco", "root": "x", "images": ".", "train": "a", "test": "b"}},
        "data.root",
    ),
    "negative seed": ({"seeds": [-1]}, "seed -1 is outside"),
    "seed twice": ({"seeds": [1, 1]}, "seed 1 is given twice"),
    "no seed": ({"seeds": []}, "no seed"),
    "huge seed": ({"seeds": [2**31]}, "outside"),
    "seed is text": ({"seeds": ["one"]}, "valid integer"),
    "negative lr": ({"training": {"lr": -1}}, "greater than 0"),
    "nan lr": ({"training": {"lr": float("nan")}}, "finite"),
    "infinite lr": ({"training": {"lr": "inf"}}, "finite|less than"),
    "lr is text": ({"training": {"lr": "fast"}}, "valid number"),
    "no batch": ({"training": {"batch_size": 0}}, "greater than or equal to 1"),
    "half an epoch": ({"training": {"epochs": 1.5}}, "integer"),
    "falling milestones": (
        {"training": {"schedule": "multistep", "milestones": [0.9, 0.5]}},
        "rise strictly",
    ),
    "per_task beyond": ({"per_task": {3: {"training": {"lr": 0.1}}}}, r"got task 3.*tasks 1\.\.2"),
    "per_task zero": ({"per_task": {0: {"training": {"lr": 0.1}}}}, "got task 0"),
    "per_task wrong key": ({"per_task": {2: {"traning": {}}}}, "did you mean 'training'"),
    "per_task wrong value": ({"per_task": {2: {"training": {"lr": 0}}}}, r"per_task\.2"),
    "unknown clip": ({"clip": {"model": "ViT-B-61"}}, r"unknown CLIP model 'ViT-B-61' \(did you"),
    "clip without tag": ({"clip": {"model": "ViT-B-16"}}, "clip.tag is missing"),
    "missing weights": (
        {"clip": {"model": "ViT-B-16", "tag": "openai", "file": "no.safetensors"}},
        "no.safetensors",
    ),
    "bad name": ({"name": "../up"}, "expected letters, digits"),
    "name of a result": ({"name": "figures"}, "a file's of results/.*expected another name"),
    "shipped name": ({"name": "shapes_10_10_clclip"}, "is a shipped experiment's"),
    "text for no class": ({"text": {"red circl": "x"}}, "did you mean 'red circle'"),
    "unknown evaluation": ({"evaluation": {"ap": "voc12"}}, "voc_area"),
    "tasks is a mapping": ({"tasks": {"a": 1}}, "valid list"),
    "training is a list": ({"training": []}, "valid dictionary"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_experiments_are_told_in_one_line(case, tmp_path):
    changes, message = WRONG[case]
    path = write(tmp_path, {**GOOD, **changes})
    with pytest.raises(InputError, match=message) as caught:
        planned(path)
    assert "\n" not in str(caught.value)
    assert ", expected " in str(caught.value) and "a consistent" not in str(caught.value)
    assert str(path) in str(caught.value) or case == "missing weights"


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
keys = st.sampled_from([*Experiment.model_fields, "format", "root", "lr", "model"]) | st.text()
anything = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(keys, anything, max_size=6))
def test_any_mapping_gives_an_experiment_or_one_line(values):
    for start in ({}, GOOD):
        try:
            parse(Experiment, {**start, **values}, "any.yaml")
        except InputError as error:
            assert "any.yaml" in str(error) and "\n" not in str(error)


@settings(max_examples=150, deadline=None)
@given(
    st.text(st.characters(codec="utf-8"), max_size=40) | st.text("[]{}:&*!-|> \nab'\"", max_size=30)
)
def test_any_text_gives_a_mapping_or_one_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        assert isinstance(read_yaml(path), dict)
    except InputError as error:
        assert "any.yaml" in str(error) and "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: [", "not plain YAML"),
        ("!!python/object/apply:os.system ['true']", "not plain YAML"),
        ("kind: !secret x", "not plain YAML"),
        ("", "an empty file"),
        ("- a\n- b", "a list"),
        ("kind: detection\nkind: detection", "given twice"),
        ("1: detection", "keys that are text"),
        ("a: &a [1]\n" + "b: [" + ", ".join(["*a"] * 200) + "]", "aliases"),
        ("x: " + "[" * 2000, "not plain YAML"),
    ],
)
def test_files_that_are_not_plain_yaml(text, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_yaml(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="directory"):
        read_yaml(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("kind: é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * 5_000_000)
    with pytest.raises(InputError, match="at most"):
        read_yaml(tmp_path / "big.yaml")


def test_numbers_may_be_written_as_yaml_writes_them(tmp_path):
    text = "kind: detection\nmethod: fvit\ntasks: [[red circle]]\ntraining: {lr: 1e-4, epochs: '3'}"
    training = planned(write(tmp_path, text)).tasks[0, 1].payload["training"]
    assert training["lr"] == 0.0001 and training["epochs"] == 3


def test_base_gives_what_the_file_leaves_out(tmp_path):
    write(tmp_path, {**GOOD, "name": "one", "training": {"lr": 0.1, "epochs": 2}}, "one.yaml")
    path = write(
        tmp_path, {"base": "one.yaml", "training": {"lr": 0.2}, "method": "fvit"}, "two.yaml"
    )
    plan = planned(path)
    payload = plan.tasks[0, 2].payload
    assert plan.name == "two" and payload["method"] == "fvit"
    assert payload["training"]["lr"] == 0.2 and payload["training"]["epochs"] == 2
    path = write(tmp_path, {"base": "shapes_10_10_fvit", "tasks": [["red star"]]}, "three.yaml")
    assert planned(path).tasks[0, 1].payload["groups"] == [["red star"]]


def test_bases_in_a_circle(tmp_path):
    write(tmp_path, {"base": "b.yaml"}, "a.yaml")
    with pytest.raises(InputError, match="name each other"):
        read_experiment(write(tmp_path, {"base": "a.yaml"}, "b.yaml"))


@pytest.mark.parametrize(
    ("given", "expected"), [(3, [3]), ("0,1,2", [0, 1, 2]), ([4, 5], [4, 5]), ("7", [7])]
)
def test_seeds_as_snakemake_passes_them(given, expected):
    run = parse(RunConfig, {"experiments": "a,b", "seeds": given}, "config")
    assert run.seeds == expected and run.experiments == ["a", "b"]


def test_yaml_off_is_off():
    assert parse(RunConfig, {"experiments": ["a"], "wandb": False}, "config").wandb == "off"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"experiments": []}, "at least 1"),
        ({"experiments": None}, "valid list"),
        ({"experiments": "a", "seeds": "x"}, "valid integer"),
        ({"experiments": "a", "seeds": True}, "not true or false"),
        ({"experiments": "a", "report": {"tittle": "x"}}, "did you mean 'title'"),
        ({"experiments": "a", "wandb": "on"}, "'offline'"),
        ({"experiment": "a"}, "did you mean 'experiments'"),
    ],
)
def test_wrong_run_configs(values, message):
    with pytest.raises(InputError, match=message):
        parse(RunConfig, values, "config")


def test_experiments_are_found_by_name_or_path(tmp_path):
    path = write(tmp_path, GOOD)
    assert find_experiment("mine.yaml", [tmp_path / "no", tmp_path]).file == path
    found = find_experiment("shapes_10_10_clclip")
    assert found.shipped and found.file.name == "shapes.yaml"
    with pytest.raises(InputError, match="no such experiment file"):
        find_experiment("other.yaml", [tmp_path])


def test_a_name_given_twice(tmp_path):
    write(tmp_path, GOOD, "a.yaml")
    write(tmp_path, {**GOOD, "name": "a"}, "b.yaml")
    with pytest.raises(InputError, match="'a' is given twice"):
        plan_run({"experiments": "a.yaml,b.yaml"}, [tmp_path])


def test_schema_is_in_step(root):
    from clclip.config.schema import schema_text

    path = root / "config" / "schema.json"
    assert path.read_text() == schema_text(), "run: clclip schema --out config/schema.json"


def test_schema_accepts_what_ships_and_refuses_a_misspelt_key(root):
    import json

    import yaml
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads((root / "config" / "schema.json").read_text()))
    files = [path for path in (root / "config").rglob("*.yaml") if path.name != "variants.yaml"]
    for path in files:
        validator.validate(yaml.safe_load(path.read_text()))
    parts = validator.evolve(schema={"$ref": "#/$defs/Variant", "$defs": validator.schema["$defs"]})
    for values in yaml.safe_load((root / "config/variants.yaml").read_text()).values():
        parts.validate(values)
    assert not validator.is_valid({"kind": "detection", "metod": "clclip"})


def test_open_clip_models_match_open_clip_itself():
    assert {"ViT-B-16", "EVA02-B-16", "ViT-B-16-SigLIP2", "ViT-L-14"} <= open_clip_models()


def test_coco_experiments_bear_the_bad_boxes_of_coco():
    """Two boxes of instances_train2017.json have no height: `fail` would refuse the data set."""
    for name in ("coco_40_40_fvit", "coco_4task_b_clclip_paper_openai"):
        experiment, _ = read_experiment(name)
        assert experiment.data.on_bad_box == "clip"
