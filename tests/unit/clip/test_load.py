"""Fetching and loading CLIPs: ids, cards, and every kind of wrong weights."""

import json
import subprocess
import sys

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from clclip.clip import fetch, ids, load
from clclip.clip.own import settle, sources
from clclip.clip.text import embed_text, read_text
from clclip.clip.tower import FrozenTower
from clclip.core.errors import InputError
from tests.helpers.clip import TINY_TEXT


@pytest.fixture
def small_architecture(monkeypatch):
    """An OpenAI-like architecture of toy size under a name and a tag of its own."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 16, "head_width": 16}
    config = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": {**TINY_TEXT, "vocab_size": 49408}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-toy", config)
    tag = {
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "quick_gelu": True,
        "url": "http://127.0.0.1:9/x",
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-toy", {"openai": tag})
    return "ViT-toy"


def test_embedded_weights_load_and_are_small(tmp_path):
    clip = settle.clip_id(None)
    assert clip == settle.clip_id({"model": "embedded"}) and clip.startswith("embedded-")
    assert (ids.WEIGHTS / "embedded.safetensors").stat().st_size < 4 * 2**20
    fetch.fetch_clip(None, tmp_path / clip)
    loaded = load.load_clip(tmp_path / clip)
    assert loaded.name == clip and loaded.image_size == 128 and loaded.patch == 8
    assert loaded.embed_dim == 128 and not any(p.requires_grad for p in loaded.model.parameters())
    shipped = load_file(ids.WEIGHTS / "embedded.safetensors")
    for key, value in loaded.model.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, shipped[key].float()), key
    embed_text(tmp_path / clip, ["red circle", "dining_table"], tmp_path / "text.safetensors")
    names, rows = read_text(tmp_path / "text.safetensors")
    assert names == ["red circle", "dining_table"] and rows.shape == (2, 128)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2))


def test_ids_are_torch_free():
    code = (
        "import sys, clclip.clip.fetch, clclip.clip.own.settle as f, clclip.clip.ids as t;"
        "import clclip.clip.features, clclip.clip.ids as s;"
        "f.clip_id(None); t.text_id('a', ['b']); s.feature_id('d', 'c', 8, 'tokens', [1], True);"
        "sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_local_file_keeps_the_tags_activation_and_pixels(small_architecture, tmp_path):
    torch.manual_seed(0)
    with load.quiet():
        model = open_clip.create_model(
            small_architecture, load_weights=False, force_quick_gelu=True
        )
    state = model.state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "w.pt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 32, 32)
    expected = model.eval().encode_image(images)
    found = set()
    for file in ("w.pt", "w.safetensors"):
        clip = {"model": small_architecture, "tag": "openai", "file": str(tmp_path / file)}
        out = tmp_path / settle.clip_id(clip)
        found.add(out.name)
        fetch.fetch_clip(clip, out)
        loaded = load.load_clip(out)
        assert loaded.mean == (0.1, 0.2, 0.3) and loaded.std == (0.4, 0.5, 0.6)
        torch.testing.assert_close(loaded.model.encode_image(images), expected)
        tower = FrozenTower(loaded, "clipself", [1])
        torch.testing.assert_close(tower.image_embedding(images), expected)
    assert len(found) == 2 and all(i.startswith("vit-toy-openai-") for i in found)
    plain = {"model": small_architecture, "tag": None, "file": str(tmp_path / "w.safetensors")}
    fetch.fetch_clip(plain, tmp_path / "plain")
    with torch.no_grad():  # without the tag: GELU, so another embedding
        other = load.load_clip(tmp_path / "plain").model.encode_image(images)
    assert (other - expected).abs().max() > 1e-4


def _clip(model, file):
    return {"model": model, "tag": None, "file": str(file)}


def test_weights_that_do_not_fit_are_refused(small_architecture, tmp_path):
    with load.quiet():
        model = open_clip.create_model(small_architecture, load_weights=False)
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    save_file(state, tmp_path / "good.safetensors")
    whole = (tmp_path / "good.safetensors").read_bytes()
    cases = {
        "truncated.safetensors": whole[: len(whole) // 2],
        "empty.safetensors": b"",
        "noise.pt": b"\x80\x02garbage",
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
    save_file({**state, "visual.proj": torch.zeros(5, 5)}, tmp_path / "other.safetensors")
    save_file(
        {k: v for k, v in state.items() if k != "ln_final.bias"}, tmp_path / "part.safetensors"
    )
    save_file(
        {**state, "ln_final.bias": torch.full((32,), torch.nan)}, tmp_path / "nan.safetensors"
    )
    for name in (*cases, "other.safetensors", "part.safetensors", "nan.safetensors"):
        with pytest.raises(InputError, match=name):
            fetch.fetch_clip(_clip(small_architecture, tmp_path / name), tmp_path / "out")
        assert not (tmp_path / "out" / "clip.json").exists()
        assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_never_run(small_architecture, tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"state_dict": Bomb()}, tmp_path / "zip.pt")
    (tmp_path / "ran").unlink(missing_ok=True)
    for name in ("bomb.pt", "zip.pt"):
        with pytest.raises(InputError, match="do not load"):
            fetch.fetch_clip(_clip(small_architecture, tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_unknown_names_are_answered_with_known_ones(small_architecture, tmp_path):
    with pytest.raises(InputError, match="did you mean 'ViT-B-16 openai'"):
        fetch.fetch_clip({"model": "ViT-B16", "tag": "openai"}, tmp_path)
    with pytest.raises(InputError, match=r"no weights 'opena' .*'ViT-B-16 openai'"):
        fetch.fetch_clip({"model": "ViT-B-16", "tag": "opena"}, tmp_path)
    with pytest.raises(InputError, match="without weights"):
        settle.clip_id({"model": "ViT-B-16"})
    with pytest.raises(InputError, match="no such weights file"):
        settle.clip_id({"model": "ViT-B-16", "file": str(tmp_path / "none.pt")})
    with pytest.raises(InputError, match="could not be downloaded"):
        fetch.fetch_clip({"model": small_architecture, "tag": "openai"}, tmp_path / "out")
    assert settle.clip_id({"model": "ViT-B-16", "tag": "openai"}) == "vit-b-16-openai"


def test_fetched_weights_are_checked_again(tmp_path):
    fetch.fetch_clip(None, tmp_path)
    path = tmp_path / "clip.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="changed since"):
        load.load_clip(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="no such file"):
        load.load_clip(tmp_path)
    card = json.loads((tmp_path / "clip.json").read_text())
    del card["mean"]
    (tmp_path / "clip.json").write_text(json.dumps(card))
    with pytest.raises(InputError, match="'mean'"):
        load.load_clip(tmp_path)


def test_large_files_are_sampled_in_all_places(tmp_path):
    big = bytearray(b"\0" * (sources._SAMPLES * sources._SAMPLE_BYTES * 2))
    path = tmp_path / "w.safetensors"
    seen = set()
    for place in (None, 0, len(big) // 2, len(big) - 1):
        data = bytearray(big)
        if place is not None:
            data[place] = 1
        path.write_bytes(data)
        seen.add(sources.file_digest(path))
    path.write_bytes(big + b"\0")
    seen.add(sources.file_digest(path))
    assert len(seen) >= 4
