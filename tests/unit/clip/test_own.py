"""CLIPs that open_clip does not list: built as open_clip builds them, told by content alone."""

import json
import shutil

import huggingface_hub
import open_clip
import pytest
import torch

from clclip.clip.architecture import blocks, dense_mode, native_size, patch, taps
from clclip.clip.dense import dense_modes
from clclip.clip.fetch import GIVEN, fetch_clip
from clclip.clip.load import load_clip, quiet
from clclip.clip.own.model_config import parsed
from clclip.clip.own.settle import clip_id, resolve_clip
from clclip.clip.own.sources import folder_weights
from clclip.clip.tower import FrozenTower
from clclip.clip.trunk import trunk_of
from clclip.core.errors import InputError
from clclip.core.models import open_clip_folders
from tests.helpers.own_clips import (
    FAMILIES,
    PIXELS,
    config_of,
    hub_cache,
    reference,
    write_folder,
    write_own,
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_config_builds_what_open_clip_builds(family, tmp_path):
    config = config_of(family)
    clip = write_own(tmp_path, config)
    resolved = resolve_clip(clip)
    fetch_clip(clip, tmp_path / "out")
    loaded = load_clip(tmp_path / "out")
    expected = reference(config)
    size = loaded.image_size
    images, words = torch.randn(2, 3, size, size), loaded.tokenizer(["a red circle", "cow"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.encode_image(images), expected.encode_image(images))
        torch.testing.assert_close(loaded.model.encode_text(words), expected.encode_text(words))
    trunk = trunk_of(loaded.model.visual)
    assert (patch(resolved), native_size(resolved)) == (trunk.patch, size)
    assert blocks(resolved) == len(trunk.blocks) and dense_mode(resolved) in dense_modes(trunk)
    tower = FrozenTower(loaded, dense_mode(resolved), taps(resolved, 2))
    torch.testing.assert_close(tower.image_embedding(images), expected.encode_image(images))
    wide = tower(torch.randn(1, 3, 2 * size, size))
    assert [len(tap[0]) for tap in wide.taps] == [wide.taps[0].shape[1]] * 2
    assert wide.dense.shape[2] == 2 * wide.dense.shape[3] == 2 * size // trunk.patch
    assert (loaded.mean, loaded.std) == (
        open_clip.OPENAI_DATASET_MEAN,
        open_clip.OPENAI_DATASET_STD,
    )
    assert loaded.name == resolved["id"] == clip_id(clip) and loaded.embed_dim == 24


def test_pooling_decides_the_dense_mode(tmp_path):
    modes = {}
    for family in ("class token", "average", "pooler", "timm", "timm, pooled by attention"):
        text = json.dumps(config_of(family))
        modes[family] = dense_mode({"model": "config", "config_text": text})
    assert list(modes.values()) == ["catseg", "tokens", "attnpool", "maskclip", "attnpool"]


def test_pixel_statistics_come_from_either_form(tmp_path):
    config = config_of("class token")
    forms = ({"model_cfg": config, "preprocess_cfg": PIXELS}, {**config, "preprocess_cfg": PIXELS})
    for number, form in enumerate(forms):
        clip = write_own(tmp_path / str(number), config)
        (tmp_path / str(number) / "own.json").write_text(json.dumps(form))
        fetch_clip(clip, tmp_path / "out" / str(number))
        loaded = load_clip(tmp_path / "out" / str(number))
        assert (loaded.mean, loaded.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
        found = open_clip.get_model_preprocess_cfg(loaded.model)
        assert found["resize_mode"] == "squash" and found["interpolation"] == "bicubic"
    one = {**config, "preprocess_cfg": {"mean": 0.5, "std": 0.25}}
    assert parsed(json.dumps(one), "x")["preprocess_cfg"] == {"mean": [0.5] * 3, "std": [0.25] * 3}


def test_the_id_says_content_and_no_place(tmp_path):
    config = config_of("class token")
    clip = write_own(tmp_path / "a", config)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "own.json").rename(tmp_path / "b" / "new.json")
    moved = {
        "config": str(tmp_path / "b/new.json"),
        "file": str(tmp_path / "b/own.safetensors"),
    }
    assert clip_id(clip) == clip_id(moved)
    (tmp_path / "b" / "new.json").write_text(json.dumps(config) + "\n")
    assert clip_id(clip) != clip_id(moved)
    ids = {clip_id(clip), clip_id(write_own(tmp_path / "a", config, seed=1))}
    assert len(ids) == 2


def test_the_folder_keeps_the_bytes_and_is_one_that_open_clip_reads(tmp_path):
    clip = write_own(tmp_path, config_of("average"))
    data = (tmp_path / "own.json").read_bytes() + b"\n "
    (tmp_path / "own.json").write_bytes(data)
    spec = resolve_clip(clip)
    (tmp_path / "own.json").unlink()  # moved away after the plan
    out = tmp_path / "out"
    fetch_clip(spec, out)
    assert (out / GIVEN).read_bytes() == data
    loaded, images = load_clip(out), torch.randn(1, 3, 32, 32)
    with quiet():
        theirs = open_clip.create_model(f"local-dir:{out}").eval()
    with torch.no_grad():
        assert torch.equal(theirs.encode_image(images), loaded.model.encode_image(images))
    config = json.loads((out / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (out / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="changed since it was fetched"):
        load_clip(out)


def test_a_local_folder_is_read_as_open_clip_reads_it(tmp_path):
    folder = write_folder(tmp_path / "mine")
    clip = {"model": f"local-dir:{folder}"}
    fetch_clip(clip, tmp_path / "out")
    loaded, images = load_clip(tmp_path / "out"), torch.randn(1, 3, 32, 32)
    with quiet():
        theirs = open_clip.create_model(f"local-dir:{folder}").eval()
    with torch.no_grad():
        assert torch.equal(theirs.encode_image(images), loaded.model.encode_image(images))
    assert loaded.mean == (0.1, 0.2, 0.3) and loaded.name.startswith("local-dir-")
    folder.rename(tmp_path / "elsewhere")
    assert clip_id({"model": f"local-dir:{tmp_path / 'elsewhere'}"}) == loaded.name
    with pytest.raises(InputError, match="no such folder"):
        clip_id(clip)


@pytest.mark.parametrize(
    "names",
    [
        ["b.bin", "z.safetensors"],
        ["pytorch_model.bin", "model.safetensors", "a.safetensors"],
        ["pytorch_model.bin", "a.safetensors"],
        ["open_clip_pytorch_model.bin", "model.pth", "x.pth"],
        ["open_clip_model.safetensors", "model.safetensors"],
    ],
)
def test_weights_of_a_folder_are_those_that_open_clip_takes(names, tmp_path):
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with quiet():
        assert str(folder_weights(tmp_path)) == open_clip.factory._find_checkpoint_in_dir(tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty hub's cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_models_revision_on_the_hub_is_in_its_id(hub, tmp_path):
    clip, first, second = {"model": "hf-hub:org/name"}, "1" * 40, "2" * 40
    with pytest.raises(InputError, match=r"^hf-hub:org/name cannot be had .*in clip.model") as told:
        clip_id(clip)
    assert "\n" not in str(told.value)
    hub_cache(hub, "org/name", first)
    spec = resolve_clip(clip)
    assert spec["id"] == f"hf-hub-org-name-{first[:12]}" and spec["revision"] == first
    hub_cache(hub, "org/name", second, "average")
    assert clip_id(clip) == f"hf-hub-org-name-{second[:12]}"
    fetch_clip(spec, tmp_path / "out")  # of the revision that was planned
    loaded = load_clip(tmp_path / "out")
    assert loaded.name == spec["id"] and trunk_of(loaded.model.visual).pooling == "tok"
    (hub / "models--org--name" / "snapshots" / first / "open_clip_model.safetensors").unlink()
    with pytest.raises(InputError, match="cannot be had"):
        fetch_clip(spec, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_every_listed_config_passes_the_checks_of_ones_own():
    """But for towers without patch tokens, and those whose tokenizer open_clip finds by name."""
    refused = {}
    for folder in open_clip_folders():
        for path in sorted(folder.glob("*.json")):
            try:
                parsed(path.read_text(), path.stem)
            except InputError as error:
                refused[path.stem] = error.what
    assert all("no patch tokens" in what for what in refused.values()), refused
    assert len(refused) < 45
