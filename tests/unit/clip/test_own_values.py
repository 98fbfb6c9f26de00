"""Values of a model config of one's own: refused when planned, in one line that names the key."""

import json

import pytest
import yaml

from clclip.cli.main import main
from clclip.clip.own.model_config import known_keys, parsed
from clclip.clip.own.values import RULES, check_values
from clclip.core.errors import InputError
from clclip.core.models import open_clip_folders
from tests.helpers.bad_input.world import DETECTION, make_data
from tests.helpers.own_clips import FAMILIES, PIXELS, config_of, write_own

WRONG = [  # section, key, value, what would be right
    ("vision_cfg", "pool_type", "max", '"tok", "avg", "none"'),
    ("text_cfg", "pool_type", "middle", '"argmax"'),
    ("vision_cfg", "patch_dropout", 1.5, "a number from 0 to below 1"),
    ("vision_cfg", "mlp_ratio", "four", "a number from"),
    ("text_cfg", "mlp_ratio", 0, "a number from"),
    ("vision_cfg", "layers", 100_000, "a whole number from 1 to 1000"),
    ("text_cfg", "layers", 100_000, "a whole number from 1 to 1000"),
    ("vision_cfg", "width", 10**9, "a whole number"),
    ("vision_cfg", "attentional_pool", "yes", '"cascade"'),
    ("vision_cfg", "attn_pooler_heads", 0, "from 1"),
    ("vision_cfg", "pos_embed_type", "rope", "sin_cos_2d"),
    ("vision_cfg", "norm_kwargs", 3, "an object"),
    ("text_cfg", "no_causal_mask", "no", "true or false"),
    ("text_cfg", "proj_type", "mlp", '"linear", "none"'),
    ("model_cfg", "quick_gelu", "yes", "true or false"),
    ("model_cfg", "init_logit_scale", "big", "a number"),
    ("preprocess_cfg", "size", "big", "a whole number"),
    ("preprocess_cfg", "fill_color", -1, "from 0 to 255"),
]


def changed(section, key, value):
    """A right config but for one value."""
    config = json.loads(json.dumps({**config_of("class token"), "preprocess_cfg": PIXELS}))
    (config if section == "model_cfg" else config[section])[key] = value
    return config


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A data set, a CLIP and an experiment that names it."""
    root = tmp_path_factory.mktemp("values")
    make_data(root)
    clip = write_own(root / "clips", config_of("class token"))
    (root / "cards.yaml").write_text(yaml.safe_dump({**DETECTION, "clip": clip}))
    return root


@pytest.mark.parametrize(("section", "key", "value", "expected"), WRONG)
def test_a_wrong_value_is_refused_when_planned_and_when_fetched(
    section, key, value, expected, work, capsys, monkeypatch
):
    monkeypatch.chdir(work)
    (work / "clips/own.json").write_text(json.dumps(changed(section, key, value)))
    clip = {"config": "clips/own.json", "file": "clips/own.safetensors"}
    for call in (
        ["describe", "cards.yaml"],
        ["fetch-clip", "--clip", json.dumps(clip), "--out", "out"],
    ):
        assert main(call) == 2
        (line,) = capsys.readouterr().err.splitlines()
        place = "own.json: " + ("" if section == "model_cfg" else f"{section}: ") + key
        assert f"got {json.dumps(value)}" in line and place in line and expected in line
    assert not (work / "out").exists()


def test_the_form_of_a_hub_names_its_sections():
    config = changed("vision_cfg", "pool_type", "max")
    whole = {"preprocess_cfg": config.pop("preprocess_cfg"), "model_cfg": config}
    with pytest.raises(InputError, match="in own: model_cfg: vision_cfg: pool_type"):
        check_values(json.dumps(whole), "own")


def test_right_values_pass():
    for family in FAMILIES:
        check_values(json.dumps(config_of(family)), family)
    checked = 0
    for folder in open_clip_folders():
        for path in folder.glob("*.json"):
            try:
                parsed(path.read_text(), path.stem)
            except InputError:
                continue
            check_values("\ufeff" + path.read_text(), path.stem)
            checked += 1
    assert checked > 50


def test_every_rule_is_about_a_key_that_open_clip_has():
    known = known_keys()
    for section in ("model_cfg", "vision_cfg", "text_cfg"):
        assert not set(RULES[section]) - set(known[section])
        rest = set(known[section]) - set(RULES[section])
        assert rest <= {"vision_cfg", "text_cfg", "multimodal_cfg", "pad_id"}, rest
