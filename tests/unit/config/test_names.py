"""Names of experiments: STREAM_METHOD[_VARIANT...] for the whole product, and what each means."""

import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from clclip.cli.main import main
from clclip.config.listing import resolved_yaml, stream_rows
from clclip.config.load import find_experiment, read_experiment
from clclip.config.names import fitting, read_name, shadowed, shipped_names
from clclip.config.streams import stream_file, stream_files, streams, streams_of
from clclip.config.variants import shared_variants
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.model.kinds import KINDS
from clclip.workflow.describe import describe, text
from clclip.workflow.plan import RunPlan, add_experiment, plan_run

BEFORE = json.loads((Path(__file__).parent / "names_before.json").read_text())
FIXED = ("kind", "seed", "task", "groups", "text", "clip", "evaluation")


def planned(name, seeds=(0,)):
    experiment, folder = read_experiment(find_experiment(name))
    return add_experiment(RunPlan(), experiment, seeds, folder, name, present=False)


def rest_of(task):
    """What a task.json says beside training and switches, as the fixture holds it."""
    data = {key: task["data"][key] for key in ("format", "image_rule")}
    if data["format"] == "shapes":
        data["id"] = task["data"]["id"]  # that of other data depends on where it lies
    # zero-shot read its images then
    stored = None if task["method"] == "zeroshot" else task.get("features")
    kept = stored and {key: stored[key] for key in ("size", "dense", "taps", "flip", "cache")}
    return {key: task[key] for key in FIXED} | {"data": data, "features": kept}


@pytest.mark.parametrize("name", BEFORE["names"])
def test_names_mean_what_they_meant_as_files(name):
    """When each was a file of its own; a switch that the method does not read may be left out."""
    method, count, training, switches, rest = BEFORE["names"][name]
    plan = planned(name, (0, 1) if rest_seeds(name) else (0,))
    tasks = [plan.tasks[key].payload for key in sorted(plan.tasks)]
    assert plan.length == count and {task["method"] for task in tasks} == {method}
    for section, number in (("training", training), ("switches", switches)):
        common, own = BEFORE[section][number]
        before = BEFORE[f"{section}_common"][common] | own
        for task in tasks:
            kept = {key for key in before if key in task[section]}
            if method != "clclip":
                kept -= {"expert_width"}  # was told to F-ViT too, which has no experts
            assert {k: task[section][k] for k in kept} == {k: before[k] for k in kept}
    found = canonical([rest_of(task) for task in tasks])
    assert hashlib.sha256(found.encode()).hexdigest()[:12] == rest


def rest_seeds(name):
    """Whether the fixture holds two seeds: those of classification, whose class order follows."""
    return read_name(name).file.kind == "classification"


PARTS = {
    "voc_10_10_fvit_mma": ("voc_10_10", "fvit_mma", ()),
    "coco_70_10_fvit_replay": ("coco_70_10", "fvit_replay", ()),
    "cifar100_10x10_hpeft_sevpr": ("cifar100_10x10", "hpeft_sevpr", ()),
    "imagenet_r_10x20_zeroshot": ("imagenet_r_10x20", "zeroshot", ()),
    "voc_10_10_clclip_paper_no_drift": ("voc_10_10", "clclip_paper", ("no_drift",)),
    "voc_10_10_clclip_openai_l14_no_text": ("voc_10_10", "clclip", ("openai_l14", "no_text")),
    "voc_10_10_clclip_no_text_openai_l14": ("voc_10_10", "clclip", ("no_text", "openai_l14")),
    "shapes_10_10_fvit_current": ("shapes_10_10", "fvit_current", ()),
    "shapes_cil_seca_adapted_centroid": ("shapes_cil_8x5", "seca", ("adapted_centroid",)),
    "shapes_cil_4x10_finetune_tuned": ("shapes_cil_4x10", "finetune", ("tuned",)),
    "smoke_seca": ("smoke_cil", "seca", ()),
    "smoke_cil_joint": ("smoke_cil", "joint", ()),
    "smoke_joint": ("smoke", "joint", ()),
    "smoke_fvit": ("smoke", "fvit", ()),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_name_has_one_reading(name):
    found = read_name(name)
    assert (found.stream.name, found.method, found.variants) == PARTS[name]


def test_every_stream_method_and_fitting_variant_makes_an_experiment():
    """The whole product resolves; a stream of each file is planned with each of them too."""
    read = 0
    for stem in stream_files():
        file = stream_file(stem)
        for place, stream in enumerate(streams_of(stem)):
            for method in KINDS[file.kind].methods:
                variants = ["", *(f"_{variant}" for variant in fitting(file, method))]
                for variant in variants:
                    name = f"{stream}_{method}{variant}"
                    if place == 0 and (variant or stem in ("voc", "shapes_cil")):
                        assert planned(name).tasks
                    else:
                        read_name(name)
                    read += 1
    assert read > 2000 and len(shipped_names()) > 300


def test_every_stream_and_method_has_a_name_of_its_own_and_a_shadowed_one_says_so():
    """Two kinds may share a short name; then each experiment has a longer one, and describe it."""
    whole, short = Counter(), Counter()
    for stem in stream_files():
        for called, stream in streams_of(stem).items():
            for method in KINDS[stream_file(stem).kind].methods:
                short[f"{called}_{method}"] += 1
                name = f"{stream.name}_{method}"
                found = read_name(name)
                assert (found.stream.file, found.method) == (stem, method), name
                whole[name] += called == stream.name
    assert set(whole.values()) == {1}
    twice = {name for name, count in short.items() if count > 1}
    assert twice == {"smoke_joint"}  # of detection, as ever
    assert read_name("smoke_joint").file.kind == "detection"
    for name in short:
        other = {"classification": "smoke_cil_joint"} if name in twice else {}
        assert shadowed(name) == other
    assert "that of classification is called smoke_cil_joint" in text(describe("smoke_joint"))
    assert "that of classification is smoke_cil_joint" in resolved_yaml("smoke_joint")
    old, new = planned("smoke_seca").tasks, planned("smoke_cil_seca").tasks
    assert [task.json for task in old.values()] == [task.json for task in new.values()]


WRONG = {
    "voc_10_1O_fvit": ["no stream 'voc_10_1O'", "the nearest is 'voc_10_10'"],
    "shapes_cil_8x6_seca": ["no stream 'shapes_cil_8x6'", "the nearest is 'shapes_cil_8x5'"],
    "shape_10_10_clclip_no_text": ["no stream 'shape_10_10'", "the nearest is 'shapes_10_10'"],
    "voc_10_10_fvitt": ["no method 'fvitt'", "the nearest is 'fvit'"],
    "voc_10_10_clclp_no_text": ["no method 'clclp'", "the nearest is 'clclip'"],
    "voc_10_10_fvit_mna": ["no method 'fvit_mna'", "the nearest is 'fvit_mma'"],
    "voc_10_10_clclip_papr": ["no method 'clclip_papr'", "the nearest is 'clclip_paper'"],
    "voc_10_10_clclip_no_expert": ["no variant 'no_expert'", "the nearest is 'no_experts'"],
    "voc_10_10_clclip_no_gate": ["no variant 'no_gate'"],
    "voc_10_10_clclip_openai_no_tex": ["no variant 'no_tex'", "the nearest is 'no_text'"],
    "voc_10_10_fvit_sigclip2": ["no variant 'sigclip2'", "the nearest is 'siglip2'"],
    "voc_10_10_fvit_no_experts": ["'no_experts' does not fit voc_10_10_fvit", "clclip_paper"],
    "voc_10_10_clclip_no_drift": ["'no_drift' does not fit voc_10_10_clclip", "clclip_paper"],
    "voc_10_10_fvit_embedded_map": ["'embedded_map' does not fit", "format shapes"],
    "cifar100_10x10_seca_no_text": ["'no_text' does not fit cifar100_10x10_seca", "clclip"],
    "shapes_cil_seca_tuned": ["'tuned' does not fit shapes_cil_8x5_seca", "finetune, joint"],
    "voc_10_10_clclip_openai_eva02": ["'openai' and 'eva02' both set clip.model", "one of the"],
    "voc_10_10_clclip_no_text_no_text": ["'no_text' and 'no_text' both set", "one of the two"],
    "voc_10_10_seca": ["method 'seca' is not for detection", "fvit_mma"],
    "voc_10_10": ["'voc_10_10' is a stream", "voc_10_10_METHOD"],
    "nonsense": ["no stream 'nonsense'", "clclip list"],
}


@pytest.mark.parametrize("name", WRONG)
def test_the_wrong_part_of_a_name_is_told_with_the_nearest_right_one(name, capsys):
    assert main(["describe", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: unknown experiment {name!r}")
    assert all(part in line for part in WRONG[name]), line


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("voc_10_1O_fvit_mma", "voc_10_10_fvit_mma"),
        ("voc_10_10_clclp_no_text", "voc_10_10_clclip_no_text"),
        ("shapes_10_10_clclip_no_texts_openai", "shapes_10_10_clclip_no_text_openai"),
    ],
)
def test_the_whole_name_is_mended_where_one_part_is_wrong(name, right):
    with pytest.raises(InputError, match=f"did you mean '{right}'"):
        find_experiment(name)


def test_a_wrong_base_names_its_place(tmp_path):
    (tmp_path / "mine.yaml").write_text("base: voc_10_10_fvitt\n")
    with pytest.raises(InputError, match=r"mine\.yaml: base, expected one of fvit"):
        read_experiment(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    "name", ["coco_70_10_fvit_replay", "shapes_10_10_clclip_paper_no_drift", "smoke_seca"]
)
def test_any_name_is_a_base(name, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"base: {name}\ntraining: {{lr: 0.5}}\n")
    mine, theirs = planned(str(path)), planned(name)
    assert mine.name == "mine"
    for key, task in theirs.tasks.items():
        own = mine.tasks[key].payload
        assert own["training"].pop("lr") == 0.5 != task.payload["training"].pop("lr")
        assert own == task.payload


def test_a_method_by_its_alias_in_a_file(tmp_path):
    """As published, on classes of one's own; the task is one of CL-CLIP."""
    path = tmp_path / "mine.yaml"
    tasks = "kind: detection\ntasks: [[red circle], [green circle]]\n"
    path.write_text(f"{tasks}method: clclip_paper\nswitches: {{drift_weight: 2.0}}\n")
    task = planned(str(path)).tasks[0, 2].payload
    assert task["method"] == "clclip" and task["switches"]["shared"] == "drift"
    assert task["switches"]["drift_weight"] == 2.0 and not task["switches"]["text_score"]


@pytest.mark.parametrize("word", ["stream", "protocol"])
def test_a_stream_is_named_by_either_word(word, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(f"kind: detection\nmethod: fvit\n{word}: shapes_19_1\n")
    plan = planned(str(path))
    assert len(plan.tasks[0, 2].payload["groups"][0]) == 19
    assert plan.protocol_option == "--protocol shapes_19_1"
    path.write_text(f"base: shapes_10_10_fvit\n{word}: shapes_19_2\n")
    with pytest.raises(InputError, match=f"'shapes_19_2'.*did you mean.*mine.yaml: {word}"):
        planned(str(path))


def test_a_run_list_holds_experiments(tmp_path):
    listed = {"name": "mine", "base": "smoke_fvit", "training": {"epochs": 3}}
    over = {"name": "other", "base": "theirs.yaml", "switches": {"roi_convs": 2}}
    (tmp_path / "theirs.yaml").write_text("base: smoke_clclip\n")
    run = plan_run({"experiments": ["smoke_fvit", listed, over]}, [tmp_path])
    assert list(run.experiments) == ["smoke_fvit", "mine", "other"]
    assert run.task("mine", 0, 1).payload["training"]["epochs"] == 3
    task = run.task("other", 0, 1).payload
    assert task["method"] == "clclip" and task["switches"]["roi_convs"] == 2


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"base": "smoke_fvit"}, "without a name"),
        ({"name": "mine", "base": "smoke_fvt"}, r"experiments: mine: base, expected"),
        ({"name": "mine", "base": "smoke_fvit", "trainin": {}}, "did you mean 'training'"),
        ({"name": "voc_10_10_fvit", "base": "smoke_fvit"}, "a shipped experiment's"),
        ({"name": "mine", "base": 3}, "got 3, in experiments: mine: base"),
    ],
)
def test_a_wrong_entry_of_a_run_list(entry, message):
    with pytest.raises(InputError, match=message):
        plan_run({"experiments": [entry]})


def test_every_shipped_run_plans(root):
    """Lists of names and of experiments; their relative bases start at the project."""
    for path in [*(root / "config").glob("*.yaml"), *(root / "config/ablation").glob("*.yaml")]:
        values = yaml.safe_load(path.read_text())
        if "experiments" in values:
            run = plan_run(values, [root])
            assert len(run.experiments) == len(values["experiments"])
    screen = yaml.safe_load((root / "config/ablation/screen.yaml").read_text())
    task = plan_run(screen, [root]).task("screen_gate_minmax", 0, 1).payload
    assert task["data"]["id"].startswith("shapes20_half")
    assert task["switches"]["gate"] == "minmax" and task["switches"]["score_loss"] == "bce"
    assert len(list((root / "config").rglob("*.yaml"))) <= 30


@pytest.mark.parametrize(
    "name",
    [
        "voc_10_10_clclip_paper_no_drift",
        "coco_4task_a_fvit_openai_l14",
        "shapes_cil_finetune_tuned",
        "smoke_seca",
        "imagenet_r_10x20_seca",
        "shapes_10_10_joint",
    ],
)
def test_describe_yaml_is_a_file_that_says_the_same(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["describe", name, "--yaml"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"# {name}") and len(text.splitlines()) <= 12
    (tmp_path / "mine.yaml").write_text(text)
    mine, theirs = planned("mine.yaml").tasks, planned(name).tasks
    assert [task.json for task in mine.values()] == [task.json for task in theirs.values()]


def test_describe_yaml_of_a_file_with_a_base(tmp_path, capsys, monkeypatch):
    (tmp_path / "sub").mkdir()
    text = "base: shapes_10_10_clclip\nper_task: {2: {training: {lr: 0.1}}}\nseeds: [4]\n"
    (tmp_path / "sub/mine.yaml").write_text(text)
    assert main(["describe", str(tmp_path / "sub/mine.yaml"), "--yaml"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["seeds"] == [4] and found["per_task"][2]["training"]["lr"] == 0.1
    assert found["stream"] == "shapes_10_10" and "base" not in found


def test_list_tells_what_names_are_made_of(capsys):
    def told(*words):
        assert main(["list", *words]) == 0
        return capsys.readouterr().out

    whole = told()
    for part in itertools.chain(
        streams(), *(kind.methods for kind in KINDS.values()), ("no_text", "openai", "tuned")
    ):
        assert f"\n  {part} " in whole
    assert "  shapes_cil " in whole and "the same as shapes_cil_8x5" in whole
    part = told("70")
    assert "coco_70_10" in part and "voc" not in part.split("\n", 1)[1] and "methods" not in part
    behind = told("voc_10_10")
    assert "fvit_mma" in behind and "no_text" in behind and "seca" not in behind
    fits = told("voc_10_10_fvit")
    assert "openai_l14" in fits and "no_text" not in fits.split("\n", 1)[1]
    assert main(["list", "voc_10_1O"]) == 2
    assert "did you mean 'voc_10_10'" in capsys.readouterr().err


def test_list_tells_streams_of_other_image_rules_apart():
    words = {name: text for name, text in stream_rows()}
    usual, apart = words["clutter20_10_10"], words["clutter20_10_10_apart"]
    assert apart == f"{usual}; no old object in new images"
    assert words["clutter20_places_10_10"].endswith("; a place per task")


def test_a_new_stream_is_one_file(tmp_path, monkeypatch, root):
    """And it has every method of its kind, and their variants."""
    import shutil

    from clclip.config import names, yaml_files

    for name in ("streams", "variants.yaml"):
        source = root / "config" / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    (tmp_path / "streams/pets.yaml").write_text(
        "base: shapes\ndata: {world: shapes20_half}\nstreams: {'2_2': [[red star], [blue star]]}\n"
    )
    caches = (stream_files, stream_file, streams_of, names.shipped_names, shared_variants)
    with monkeypatch.context() as patch:
        for module in ("streams", "variants", "load"):
            patch.setattr(f"clclip.config.{module}.shipped_folder", lambda: tmp_path)
        assert yaml_files.shipped_folder() != tmp_path
        for cached in caches:
            cached.cache_clear()
        task = planned("pets_2_2_clclip_no_text").tasks[0, 2].payload
        assert task["groups"] == [["red star"], ["blue star"]]
        assert task["training"]["epochs"] == 4 and "pets_2_2_fvit_mma" in names.shipped_names()
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("stream", ["clutter20_10_10", "clutter20_places_10_10", "clutter80_4task"])
def test_cluttered_worlds_route_by_text_where_there_is_a_text_score(stream):
    routes = {}
    for method in ("clclip", "clclip_no_text", "clclip_no_experts", "clclip_paper"):
        switches = planned(f"{stream}_{method}").tasks[0, 1].payload["switches"]
        routes[method] = switches.get("route"), switches.get("route_probability")
    assert routes == {
        "clclip": ("text", 0.003),
        "clclip_no_text": ("share", None),
        "clclip_no_experts": (None, None),
        "clclip_paper": ("share", None),
    }


@pytest.mark.parametrize(
    ("name", "rate"),
    [("shapes_cil_magmax", 1e-5), ("shapes40_magmax", 1e-5), ("shapes_cil_finetune", 3e-4)],
)
def test_magmax_learns_at_its_own_rate_on_the_embedded_stream(name, rate):
    assert planned(name).tasks[0, 1].payload["training"]["lr"] == rate
