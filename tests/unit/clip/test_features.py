"""Canvas and feature store: geometry, flips, precision, concurrency and damage."""

import json
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from clclip.clip import features as store_module
from clclip.clip import load
from clclip.clip.canvas import canvas_scale, letterbox, scaled_size
from clclip.clip.features import FeatureStore, build_features
from clclip.clip.ids import feature_id
from clclip.clip.tower import FrozenTower
from clclip.core.errors import InputError
from tests.helpers.clip import random_clip

MEAN, STD = (0.2, 0.4, 0.6), (0.5, 0.25, 0.2)


def test_letterbox_puts_boxes_where_scale_says():
    """A white box on black lies at box * scale; mirrored, at scaled width - x."""
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    image[:, 10:30, 20:40] = 255
    scale = canvas_scale(100, 60, 50)
    assert scale == 0.5 and scaled_size(100, 60, 50) == (50, 30)
    canvas = letterbox(image, 50, (0, 0, 0), (1, 1, 1))
    assert canvas.shape == (3, 50, 50)
    rows, columns = np.nonzero(canvas[0].numpy() > 0.5)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (5, 15, 10, 20)
    flipped = letterbox(image, 50, (0, 0, 0), (1, 1, 1), flip=True)
    columns = np.nonzero(flipped[0].numpy() > 0.5)[1]
    assert (columns.min(), columns.max() + 1) == (50 - 20, 50 - 10)


def test_letterbox_flips_content_not_canvas_and_pads_with_the_mean():
    tall = torch.full((3, 80, 40), 255, dtype=torch.uint8)
    tall[:, :, :20] = 0
    plain, flipped = (letterbox(tall, 80, MEAN, STD, flip) for flip in (False, True))
    for canvas in (plain, flipped):
        assert (canvas[:, :, 40:] == 0).all()  # the padding stays on the right
        assert (canvas[:, :, :40] != 0).all()
    torch.testing.assert_close(flipped[:, :, :40], plain[:, :, :40].flip(-1))
    assert plain[0, 0, 30].item() == pytest.approx((1 - 0.2) / 0.5)
    assert plain[1, 0, 5].item() == pytest.approx((0 - 0.4) / 0.25)


def test_extreme_images_keep_a_pixel():
    assert scaled_size(4000, 3, 64) == (64, 1)
    assert letterbox(torch.zeros(3, 3, 4000, dtype=torch.uint8), 64, MEAN, STD).shape == (3, 64, 64)
    assert letterbox(torch.zeros(3, 1, 1, dtype=torch.uint8), 64, MEAN, STD).shape == (3, 64, 64)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Five odd-sized images with an index, and a toy tower in place of a loaded CLIP."""
    rng = np.random.default_rng(0)
    (tmp_path / "data/images").mkdir(parents=True)
    images = []
    for k, (width, height) in enumerate([(40, 30), (30, 40), (64, 64), (50, 20), (10, 10)]):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"data/images/{k}.png")
        images.append({"id": 100 - k, "file_name": f"{k}.png", "width": width, "height": height})
    index = {"root": "images", "splits": {"train": "train.json"}}
    (tmp_path / "data/index.json").write_text(json.dumps(index))
    (tmp_path / "data/train.json").write_text(json.dumps({"images": images}))
    clip = random_clip("ViT-B-16", layers=2, width=32, head_width=16, patch_size=16, image_size=64)
    monkeypatch.setattr(load, "load_clip", lambda folder: clip)
    monkeypatch.setattr(store_module, "_BATCH_TOKENS", 2 * 9)
    return tmp_path, clip, images


def build(root, **changes):
    settings = {"size": 48, "dense": "clipself", "taps": [0, 1], "flip": True} | changes
    build_features(root / "data", root / "clip", "train", root / "store/train", **settings)
    return FeatureStore(root / "store/train")


def test_stored_features_are_the_towers_own(world):
    root, clip, _ = world
    store = build(root)
    assert store.image_ids == [100, 99, 98, 97, 96]
    assert (store.size, store.stride, store.width, store.dim) == (48, 16, 32, 512)
    assert store.scale[100] == 48 / 40 and store.scale[99] == 48 / 40 and store.scale[97] == 48 / 50
    tower = FrozenTower(clip, "clipself", [0, 1])
    found = store.read([97, 100, 97], [False, True, True])
    for row, (image, flip) in enumerate([(3, False), (0, True), (3, True)]):
        pixels = torch.from_numpy(np.array(Image.open(root / f"data/images/{image}.png"))).permute(
            2, 0, 1
        )
        expected = tower(letterbox(pixels, 48, clip.mean, clip.std, flip)[None])
        assert found.dense.dtype == torch.float32
        torch.testing.assert_close(found.dense[row], expected.dense[0], rtol=2e-3, atol=2e-3)
        for tap, other in zip(found.taps, expected.taps, strict=True):
            torch.testing.assert_close(tap[row], other[0], rtol=2e-3, atol=5e-3)
    assert not torch.equal(found.dense[0], found.dense[2])
    marker = json.loads((root / "store/train/done.json").read_text())
    array = np.load(root / "store/train/tap1_flip.npy")
    assert store_module.hashlib.sha256(array.tobytes()).hexdigest() == marker["sha256"]["tap1_flip"]


def test_a_complete_store_is_left_alone_and_a_leftover_is_replaced(world):
    root, _, _ = world
    build(root)
    before = (root / "store/train/dense.npy").stat().st_mtime_ns
    build(root)
    assert (root / "store/train/dense.npy").stat().st_mtime_ns == before
    (root / "store/train/done.json").unlink()
    with pytest.raises(InputError, match="no finished feature store"):
        FeatureStore(root / "store/train")
    assert build(root).read([96]).dense.shape == (1, 512, 3, 3)
    assert [p.name for p in (root / "store").iterdir()] == ["train"]


def test_two_builders_at_once_agree(world):
    root, _, _ = world
    errors = []

    def job():
        try:
            build(root)
        except BaseException as error:
            errors.append(error)

    jobs = [threading.Thread(target=job) for _ in range(3)]
    for job_ in jobs:
        job_.start()
    for job_ in jobs:
        job_.join()
    assert not errors
    assert [p.name for p in (root / "store").iterdir()] == ["train"]
    assert FeatureStore(root / "store/train").read([100]).dense.isfinite().all()


def test_without_flip_mirrored_images_are_not_stored(world):
    root, _, _ = world
    store = build(root, flip=False, taps=[1])
    assert sorted(p.name for p in store.folder.glob("*.npy")) == ["dense.npy", "tap1.npy"]
    with pytest.raises(ValueError, match="flip"):
        store.read([100], [True])


def test_bad_input_leaves_nothing_behind(world, monkeypatch):
    root, _, _ = world
    with pytest.raises(InputError, match="multiple of the patch, 16"):
        build(root, size=50)
    with pytest.raises(InputError, match="attnpool"):
        build(root, dense="attnpool")
    Image.new("RGB", (7, 7)).save(root / "data/images/4.png")
    with pytest.raises(InputError, match="7 x 7 pixels, indexed as 10 x 10"):
        build(root)
    (root / "data/images/2.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"2\.png"):
        build(root)
    usage = shutil.disk_usage(root)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="larger disk"):
        build(root)
    assert not list((root / "store").iterdir())
    with pytest.raises(InputError, match="no split 'test'"):
        build_features(root / "data", root, "test", root / "s", 48, "clipself", [0])


def test_damaged_arrays_and_unknown_images_are_refused(world):
    root, _, _ = world
    store = build(root)
    with pytest.raises(InputError, match="image 7"):
        store.read([100, 7])
    path = root / "store/train/dense.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="damaged features"):
        FeatureStore(root / "store/train").read([100])
    np.save(path, np.zeros((5, 1, 3, 3), np.float16))
    with pytest.raises(InputError, match="shape"):
        FeatureStore(root / "store/train").read([100])


def test_ids_name_everything_that_values_depend_on():
    base = {"data": "d", "clip": "c", "size": 8, "dense": "tokens", "taps": [1, 2], "flip": True}
    changes = {
        "data": "e",
        "clip": "f",
        "size": 16,
        "dense": "maskclip",
        "taps": [2, 1],
        "flip": False,
    }
    ids = {
        feature_id(**base),
        *(feature_id(**{**base, key: value}) for key, value in changes.items()),
    }
    assert len(ids) == 7
