"""Experiments with a CLIP of one's own, through every stage; its files may move after the plan."""

import json
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from clclip.cli.main import main
from clclip.clip.architecture import timm_module
from clclip.workflow.clip_checks import DENSE_MODULES
from clclip.workflow.plan import FACTS, plan_run
from tests.helpers.bad_input.world import CLASSIFICATION, DETECTION, calls_of, make_data
from tests.helpers.own_clips import config_of, write_own


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with two data sets, a CLIP and two experiments that name it."""
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path)
    clip = write_own(tmp_path / "clips", config_of("class token"))
    here = {key: f"clips/{path.rsplit('/', 1)[1]}" for key, path in clip.items()}
    for name, values in (("cards", DETECTION), ("birds", CLASSIFICATION)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({**values, "clip": here}))
    return tmp_path


CONFIG = {"experiments": ["cards.yaml", "birds.yaml"]}


def test_detection_and_classification_run_though_the_files_move_away(work, capsys):
    for name in ("cards", "birds"):
        assert main(["describe", f"{name}.yaml"]) == 0
        assert "CLIP own-" in capsys.readouterr().out
    plan = plan_run(CONFIG, [work], work / "facts")
    payload = next(iter(plan.experiments["cards"].tasks.values())).payload
    (name,) = plan.clips
    assert payload["clip"] == {"model": "config", "id": name}
    assert payload["features"]["dense"] == "catseg" and str(work) not in json.dumps(payload)
    (work / "clips" / "own.json").unlink()
    again = plan_run(CONFIG, [work], work / "facts", job=True)
    assert again.clips == plan.clips
    calls = calls_of(plan)
    fetch = [call for call in calls if call[0] == "fetch-clip"]
    assert len(fetch) == 1 and main(fetch[0]) == 0
    shutil.rmtree(work / "clips")
    for call in calls:
        assert call[0] == "fetch-clip" or main(call) == 0, call
    image = str(work / "cards/images/test1.png")
    assert main(["detect", "--run", "results/cards/seed0", image, "--out", "boxes"]) == 0
    assert main(["classify", "--run", "results/birds/seed0", image, "--out", "found.json"]) == 0
    assert len(json.loads((work / "found.json").read_text())[0]["classes"]) == 3
    index = next((work / "resources/data").glob("cards-*"))
    for probe in ("probe-dense", "zero-shot"):
        call = [probe, "--data", str(index), "--clip", f"resources/clip/{name}"]
        assert main(call) == 0 and name in capsys.readouterr().out


def test_a_plan_goes_on_with_what_was_read_of_a_file_that_is_gone(work, caplog):
    plan = plan_run(CONFIG, [work], work / "facts")
    config = (work / "clips" / "own.json").read_text()
    (work / "clips" / "own.json").unlink()
    assert plan_run(CONFIG, [work], work / "facts").clips == plan.clips
    assert "no such model config" in caplog.text and next(iter(plan.clips)) in caplog.text
    (work / "clips" / "own.json").write_text(config + "\n")  # other bytes: another CLIP
    other = plan_run(CONFIG, [work], work / "facts").clips
    assert other.keys() != plan.clips.keys()
    assert plan_run(CONFIG, [work], work / "facts", job=True).clips == other
    assert main(["describe", "cards.yaml"]) == 0


def test_describe_agrees_with_the_run_on_a_file_that_is_gone(work, capsys):
    plan_run(CONFIG, [work], cache=FACTS)
    kept = sorted(path.name for path in FACTS.iterdir())
    shutil.move("clips", "gone")
    assert main(["describe", "cards.yaml", "--json"]) == 0
    told = capsys.readouterr()
    clip = json.loads(told.out)["clip"]
    assert "taken as an earlier plan found it" in told.err and clip["there"] is False
    copy = work / "resources" / "clip" / clip["id"]
    copy.mkdir(parents=True)
    (copy / "clip.json").touch()
    assert main(["describe", "cards.yaml", "--json"]) == 0
    clip = json.loads(capsys.readouterr().out)["clip"]
    assert clip["there"] is True and clip["where"] == f"resources/clip/{clip['id']}"
    assert sorted(path.name for path in FACTS.iterdir()) == kept
    shutil.rmtree("resources")
    assert main(["describe", "cards.yaml"]) == 2
    assert "no such model config" in capsys.readouterr().err and not FACTS.exists()


def test_paths_start_at_the_file_that_writes_them_and_bases_of_another_sort_end(work, tmp_path):
    (work / "deep").mkdir()
    upper = {"base": "../cards.yaml", "training": {"epochs": 2}}
    (work / "deep" / "upper.yaml").write_text(yaml.safe_dump(upper))
    own = plan_run({"experiments": ["cards.yaml"]}, [work]).clips
    assert plan_run({"experiments": ["deep/upper.yaml"]}, [work]).clips == own
    for clip in ({"model": "ViT-B-16", "tag": "openai"}, {"model": "embedded_cls"}):
        (work / "deep" / "upper.yaml").write_text(yaml.safe_dump({**upper, "clip": clip}))
        (found,) = plan_run({"experiments": ["deep/upper.yaml"]}, [work]).clips.values()
        assert {key: found[key] for key in clip} == clip and "file" not in found
    (work / "b16.yaml").write_text(
        yaml.safe_dump({**DETECTION, "clip": {"model": "ViT-B-16", "tag": "openai"}})
    )
    mine = {"config": "../clips/own.json", "file": "../clips/own.safetensors"}
    (work / "deep" / "upper.yaml").write_text(yaml.safe_dump({"base": "../b16.yaml", "clip": mine}))
    assert plan_run({"experiments": ["deep/upper.yaml"]}, [work]).clips == own


def vision(**changes):
    """Return an edit of a config's image tower."""
    return lambda config: config["vision_cfg"].update(changes)


def text(**changes):
    """Return an edit of a config's text tower."""
    return lambda config: config["text_cfg"].update(changes)


BAD = {  # name: (edit of the config, or its whole text; words of the one line)
    "not JSON": ("{", ["not JSON", "own.json"]),
    "a list": ("[]", ["got []", "own.json"]),
    "empty": ("", ["not JSON", "own.json"]),
    "no text tower": (lambda c: c.pop("text_cfg"), ["no key 'text_cfg'", "own.json"]),
    "no object": (lambda c: c.update(vision_cfg=3), ["got 3", "own.json: vision_cfg"]),
    "unknown key": (lambda c: c.update(embed=1), ["unknown key 'embed'", "own.json"]),
    "misspelt key": (
        vision(patchsize=8),
        ["unknown key 'patchsize' (did you mean 'patch_size'?)", "own.json: vision_cfg"],
    ),
    "misspelt text": (text(head=2), ["'head' (did you mean 'heads'?)", "own.json: text_cfg"]),
    "misspelt pixels": (
        lambda c: c.update(preprocess_cfg={"means": [1, 1, 1]}),
        ["'means' (did you mean 'mean'?)", "own.json: preprocess_cfg"],
    ),
    "two statistics": (
        lambda c: c.update(preprocess_cfg={"std": [1, 1]}),
        ["got [1, 1]", "preprocess_cfg: std", "three numbers above 0"],
    ),
    "unknown resizing": (
        lambda c: c.update(preprocess_cfg={"resize_mode": "crop"}),
        ["'crop'", "preprocess_cfg: resize_mode", "shortest, longest, squash"],
    ),
    "no patch": (vision(patch_size=0), ["got 0", "vision_cfg: patch_size", "from 1"]),
    "a word for layers": (vision(layers="two"), ["'two'", "vision_cfg: layers"]),
    "a ResNet": (vision(layers=[1, 1, 1, 1]), ["a ResNet has no patch tokens", "own.json"]),
    "a ConvNeXt": (vision(timm_model_name="convnext_tiny"), ["convnext_tiny has no patch tokens"]),
    "a BEiT": (
        vision(timm_model_name="beit_base_patch16_224"),
        ["beit_base_patch16_224 has no dense mode", "own.json: vision_cfg: timm_model_name"],
    ),
    "a hybrid": (vision(timm_model_name="test_resnet"), ["no dense mode", "own.json"]),
    "an XCiT": (vision(timm_model_name="xcit_nano_12_p16_224.fb_in1k"), ["no dense mode"]),
    "few words": (text(vocab_size=64), ["vocab_size 64", "49408", "hf_tokenizer_name"]),
    "oblong": (vision(image_size=[32, 64]), ["[32, 64]", "vision_cfg: image_size"]),
    "a hub's with more": (
        lambda c: c.update(model_cfg=dict(c), notes=1),
        ["unknown key 'embed_dim'", "own.json"],
    ),
}
BUILT = {  # refused by the stage that builds it: the plan imports no torch
    "unknown timm model": (vision(timm_model_name="vit_none"), ["cannot be built", "own.json"]),
    "heads that do not divide": (vision(width=33), ["cannot be built", "own.json"]),
    "other weights": (vision(width=48), ["weights do not load", "own.safetensors"]),
}


def edited(work, change):
    """Write a changed config."""
    path = work / "clips" / "own.json"
    if isinstance(change, str):
        path.write_text(change)
        return
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def one_line(capsys, words):
    """Assert that one error line was told that holds the words."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    for word in words:
        assert word in lines[0], lines[0]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_config_is_told_in_one_line(name, work, capsys):
    change, words = BAD[name]
    edited(work, change)
    assert main(["describe", "cards.yaml"]) == 2
    one_line(capsys, [*words, "cards.yaml: clip"])


def test_what_is_missing_of_a_clip_names_the_file_that_asks_for_it(work, capsys):
    for name, words in (("own.safetensors", "clip.file"), ("own.json", "clip.config")):
        (work / "clips" / name).unlink()
        assert main(["describe", "cards.yaml"]) == 2
        one_line(capsys, [f"cards.yaml: {words}", "no such"])


def test_every_module_of_timm_with_a_dense_mode_is_known():
    """And a tower of each other module whose blocks look like a ViT's is refused when planned."""
    import timm

    with torch.device("meta"):
        for name in ("deit3_small_patch16_224", "eva02_tiny_patch14_224", "vitamin_small_224"):
            tower = timm.create_model(name)
            assert timm_module(name) in DENSE_MODULES and hasattr(tower, "_pos_embed"), name
        for name in ("beit_base_patch16_224", "xcit_nano_12_p16_224", "samvit_base_patch16"):
            tower = timm.create_model(name)
            assert timm_module(name) not in DENSE_MODULES
            assert not (hasattr(tower, "_pos_embed") and hasattr(tower, "fc_norm")), name
    assert timm_module("vit_none") is None


@pytest.mark.parametrize("name", BUILT)
def test_a_config_that_builds_nothing_is_told_in_one_line(name, work, capsys):
    change, words = BUILT[name]
    edited(work, change)
    clip = {"config": "clips/own.json", "file": "clips/own.safetensors"}
    assert main(["fetch-clip", "--clip", json.dumps(clip), "--out", "out"]) == 2
    one_line(capsys, words)
    assert not (work / "out" / "clip.json").exists()


def test_weights_of_another_sort_of_model_are_told_by_their_tensors(work, capsys):
    """open_clip ends within its own adaptation of biases and positions before it compares."""
    state = load_file("clips/own.safetensors") | {"logit_bias": torch.zeros(())}
    save_file(state, "clips/biased.safetensors")
    clip = {"config": "clips/own.json", "file": "clips/biased.safetensors"}
    assert main(["fetch-clip", "--clip", json.dumps(clip), "--out", "out"]) == 2
    one_line(capsys, ["holds besides logit_bias", "biased.safetensors", "this very architecture"])
    edited(work, vision(patch_size=64))  # larger than the image: no patch, no place of one
    assert main(["fetch-clip", "--clip", json.dumps({**clip, "file": OWN}), "--out", "out"]) == 2
    one_line(capsys, ["positional_embedding is 17 x 32 instead of 1 x 32 and 1 more"])


OWN = "clips/own.safetensors"


@pytest.mark.parametrize(
    ("clip", "told"),
    [
        ({"model": "hf-hub:"}, "hf-hub:ORG/NAME"),
        ({"model": "hf-hub:a/b/c"}, "hf-hub:ORG/NAME"),
        ({"model": "local-dir:"}, "local-dir:PATH"),
        ({"config": "clips/own.json", "file": OWN, "tag": "openai"}, "clip.tag beside clip.config"),
        ({"config": 3, "file": OWN}, "--clip: config"),
    ],
)
def test_what_is_typed_for_fetch_clip_is_checked_as_a_section_is(clip, told, work, capsys):
    assert main(["fetch-clip", "--clip", json.dumps(clip), "--out", "out"]) == 2
    one_line(capsys, [told])
    assert not (work / "out").exists()


SECTIONS = {
    "no weights": ({"config": "clips/own.json"}, ["clip.config without clip.file"]),
    "a tag besides": (
        {"config": "clips/own.json", "file": "clips/own.safetensors", "tag": "openai"},
        ["clip.tag beside clip.config", "cards.yaml: clip"],
    ),
    "a model besides": (
        {"config": "clips/own.json", "file": "clips/own.safetensors", "model": "ViT-B-16"},
        ["clip.model beside clip.config"],
    ),
    "weights not there": (
        {"config": "clips/own.json", "file": "none.pt"},
        ["no such weights file", "none.pt", "clip.file"],
    ),
    "config not there": (
        {"config": "none.json", "file": "clips/own.safetensors"},
        ["no such model config", "none.json", "clip.config"],
    ),
    "swapped": (
        {"config": "clips/own.safetensors", "file": "clips/own.json"},
        ["own.safetensors", "an open_clip model config"],
    ),
    "a folder": ({"config": "clips", "file": "clips/own.safetensors"}, ["cannot be read"]),
    "no name": ({"model": "hf-hub:"}, ["'hf-hub:'", "hf-hub:ORG/NAME"]),
    "no path": ({"model": "local-dir:"}, ["'local-dir:'", "local-dir:PATH"]),
    "a folder of something else": ({"model": "local-dir:cards"}, ["no open_clip_config.json"]),
    "a tag of the hub": ({"model": "hf-hub:a/b", "tag": "x"}, ["clip.tag beside 'hf-hub:a/b'"]),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_that_makes_no_clip_is_told_in_one_line(name, work, capsys):
    clip, words = SECTIONS[name]
    (work / "cards.yaml").write_text(yaml.safe_dump({**DETECTION, "clip": clip}))
    assert main(["describe", "cards.yaml"]) == 2
    one_line(capsys, words)
