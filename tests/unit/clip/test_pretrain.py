"""Pre-training of the small CLIP: mosaics, loss, windows, determinism; no long training here."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from clclip.clip.embedded import pretrain
from clclip.clip.embedded.model import MEAN, STD
from clclip.clip.embedded.mosaic import BACKGROUND, PATCH, TOKENS, Mosaics
from clclip.clip.prompts import BACKGROUND_PROMPTS
from clclip.clip.trunk import OpenClipTrunk
from clclip.core.errors import InputError
from clclip.data.shapes.objects import COLOURS, class_names
from clclip.data.shapes.random import Draws


@pytest.mark.parametrize("window", [4, 8, 16])
def test_tiles_partition_the_tokens_and_stay_in_their_window(window):
    images, tiles, captions = Mosaics(0).batch(3, 6, window)
    assert images.shape == (6, 128, 128, 3) and images.dtype == np.uint8
    assert sorted(set(tiles.flatten().tolist())) == list(range(len(captions)))
    assert captions.min() >= 0 and captions.max() <= BACKGROUND
    for tile in range(len(captions)):
        image, rows, columns = np.nonzero(tiles == tile)
        assert len(set(image)) == 1
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)  # a full rectangle
        assert len(set(rows // window)) == len(set(columns // window)) == 1


def test_captions_name_the_colour_that_is_drawn():
    """The commonest saturated hue of a tile is that of its caption."""
    images, tiles, captions = Mosaics(1).batch(0, 8, 4)
    names, right, total = class_names(BACKGROUND), 0, 0
    palette = np.array(list(COLOURS.values()), dtype=float)
    for tile, caption in enumerate(captions):
        image, rows, columns = np.nonzero(tiles == tile)
        top, left = rows.min() * PATCH, columns.min() * PATCH
        pixels = images[image[0], top : top + 32, left : left + 32].reshape(-1, 3).astype(float)
        vivid = pixels[np.ptp(pixels, axis=1) > 90]
        if caption == BACKGROUND:
            assert len(vivid) < 40
        elif len(vivid) > 40:
            nearest = np.abs(vivid.mean(0) - palette).sum(1).argmin()
            right, total = right + (names[caption].split()[0] == list(COLOURS)[nearest]), total + 1
    assert total > 60 and right == total


def test_batches_depend_on_seed_and_number_alone():
    first, again, other = Mosaics(0), Mosaics(0), Mosaics(1)
    first.batch(0, 2)
    for a, b in zip(first.batch(5, 2), again.batch(5, 2), strict=True):
        assert np.array_equal(a, b)
    assert not np.array_equal(first.batch(5, 2)[0], other.batch(5, 2)[0])
    assert not np.array_equal(first.batch(5, 2)[0], first.batch(6, 2)[0])


def test_loss_against_a_plain_loop():
    torch.manual_seed(0)
    tile, texts = torch.randn(5, 5), torch.randn(3, 5)
    target, scale = torch.tensor([0, 1, 1, 2, 0]), torch.tensor(7.0)
    cosine = functional.cosine_similarity(tile[:, None], texts[None], dim=-1) * 7.0
    forward = sum(-math.log(cosine[k].softmax(0)[target[k]]) for k in range(5)) / 5
    backward = 0.0
    for text in range(3):
        column = cosine[:, text].log_softmax(0)
        backward -= sum(column[k] for k in range(5) if target[k] == text) / (target == text).sum()
    expected = (forward + backward / 3) / 2
    found = pretrain.tile_loss(tile, texts, target, scale)
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-5, atol=1e-5)


def test_tiles_are_means_of_their_tokens():
    model = pretrain.new_model(0)
    trunk = OpenClipTrunk(model.visual)
    images, tiles, captions = (torch.from_numpy(a) for a in Mosaics(0).batch(0, 2, 8))
    with torch.no_grad():
        tokens = pretrain.token_embeddings(trunk, pretrain.normalised(images), 8)
        found = pretrain.tile_embeddings(
            trunk, pretrain.normalised(images), tiles, len(captions), 8
        )
    for k in (0, len(captions) - 1):
        mean = tokens[tiles.flatten(1) == k].mean(0)
        cosine = functional.cosine_similarity(found[k], mean, dim=0)
        assert cosine > 1 - 1e-5


@pytest.mark.parametrize("name", ["embedded_cls", "embedded_map"])
def test_pooled_towers_see_each_window_as_an_image(name):
    """Whole images agree with open_clip; a change in one tile moves that tile alone."""
    model = pretrain.new_model(0, name)
    images, tiles, captions = Mosaics(0, single=True).batch(0, 2, 4)
    assert len(captions) == 32 and (tiles[1, 4:8, :4] == 16 + 4).all()
    pixels = pretrain.normalised(torch.from_numpy(images))
    trunk = OpenClipTrunk(model.visual)
    with torch.no_grad():
        found = pretrain.tile_embeddings(trunk, pixels, torch.from_numpy(tiles), 32, 4)
        whole = pretrain.tile_embeddings(trunk, pixels, torch.from_numpy(tiles), 2, 16)
        torch.testing.assert_close(whole, model.encode_image(pixels), rtol=1e-4, atol=1e-5)
        changed = pixels.clone()
        changed[1, :, 32:64, :32] += 1
        moved = pretrain.tile_embeddings(trunk, changed, torch.from_numpy(tiles), 32, 4) - found
    assert found.shape == (32, 128)
    assert moved.abs().amax(1).nonzero().flatten().tolist() == [20]


def test_whole_window_is_the_ordinary_tower():
    model = pretrain.new_model(0)
    images = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        tokens = pretrain.token_embeddings(OpenClipTrunk(model.visual), images)
        expected = model.encode_image(images)
    torch.testing.assert_close(tokens.mean(1), expected, rtol=1e-4, atol=1e-5)


def test_windows_do_not_see_each_other():
    model = pretrain.new_model(0)
    images = torch.randn(1, 3, 128, 128)
    changed = images.clone()
    changed[:, :, :64, 64:] += 1  # the upper right quarter
    with torch.no_grad():
        trunk = OpenClipTrunk(model.visual)
        a = pretrain.token_embeddings(trunk, images, 8).reshape(16, 16, -1)
        b = pretrain.token_embeddings(trunk, changed, 8).reshape(16, 16, -1)
    moved = (a - b).abs().amax(-1) > 1e-6
    assert moved[:8, 8:].all() and not moved[8:].any() and not moved[:8, :8].any()


def test_schedules():
    rates = [pretrain.learning_rate(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (pretrain.WARM_UP - 1, pretrain.WARM_UP)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)
    windows = [pretrain.window_of(step, 1000) for step in range(1000)]
    assert windows == sorted(windows) and set(windows) == {4, 8, TOKENS}


def test_captions_say_the_class():
    texts = pretrain.captions_of(Draws("c"), [0, 79, BACKGROUND])
    assert "red circle" in texts[0] and "yellow clover" in texts[1]
    assert any(prompt in texts[2] for prompt in BACKGROUND_PROMPTS)


def test_pixels_are_normalised():
    images = torch.full((1, 2, 2, 3), 255, dtype=torch.uint8)
    found = pretrain.normalised(images)
    assert found.shape == (1, 3, 2, 2)
    expected = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(found[0, :, 1, 1], expected)


def test_training_is_a_function_of_seed_and_steps(tmp_path):
    files = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        path = pretrain.pretrain_clip(tmp_path / folder, seed=seed, steps=1)
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]
    assert len(files[0]) < 4 * 2**20


def test_bad_input_is_named(tmp_path):
    with pytest.raises(InputError, match="embedded_map"):
        pretrain.pretrain_clip(tmp_path, name="ViT-B-16")
    with pytest.raises(InputError, match="0 steps"):
        pretrain.pretrain_clip(tmp_path, steps=0)
    assert not list(tmp_path.iterdir())


def test_training_learns(monkeypatch):
    """A few small steps on windows of one tile: well below the loss of guessing."""
    monkeypatch.setattr(pretrain, "WARM_UP", 3)
    model, source = pretrain.new_model(0), Mosaics(99)
    images, tiles, captions = (torch.from_numpy(a) for a in source.batch(0, 4, 4))
    distinct, target = captions.unique(return_inverse=True)
    texts = pretrain.tokenizer()(pretrain.captions_of(Draws("t"), distinct.tolist()))

    def loss_now():
        with torch.no_grad():
            pixels = pretrain.normalised(images)
            trunk = OpenClipTrunk(model.visual)
            tile = pretrain.tile_embeddings(trunk, pixels, tiles, len(target), 4)
            text, scale = model.encode_text(texts), model.logit_scale.exp()
            return pretrain.tile_loss(tile, text, target, scale).item()

    before = loss_now()
    pretrain.train_steps(model, 0, 14, batch=2)
    assert loss_now() < before - 0.2
