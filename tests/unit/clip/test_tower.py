"""Frozen towers: real architectures against open_clip, dense modes against their equations."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from clclip.clip.dense import alone, dense_modes
from clclip.clip.tower import FrozenTower
from clclip.clip.trunk import resized_position, trunk_of
from clclip.core.errors import InputError
from tests.helpers.clip import random_clip

# name: overrides of the tower, dense modes; few blocks where more add seconds and nothing new
ARCHITECTURES = {
    "ViT-B-16-quickgelu": ({}, ("maskclip", "clipself", "catseg", "tokens")),
    "ViT-L-14": ({"layers": 3}, ("maskclip", "clipself", "catseg", "tokens")),
    "EVA02-B-16": ({}, ("maskclip", "clipself", "catseg", "tokens")),
    "ViT-B-16-SigLIP2": ({}, ("maskclip", "clipself", "attnpool")),
    "embedded": ({}, ("maskclip", "clipself", "catseg", "tokens")),
    "ViT-S-16": ({"layers": 2, "ls_init_value": 0.1, "scale_attn": True}, None),
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def clip(request):
    from clclip.clip.embedded.model import register

    register()
    overrides, modes = ARCHITECTURES[request.param]
    loaded = random_clip(request.param, **overrides)
    return loaded, modes


def test_image_embedding_is_open_clips_own(clip):
    loaded, _ = clip
    images = torch.randn(1, 3, loaded.image_size, loaded.image_size)
    with torch.no_grad():
        expected = loaded.model.encode_image(images)
    tower = FrozenTower(loaded, dense_modes(trunk_of(loaded.model.visual))[0])
    torch.testing.assert_close(tower.image_embedding(images), expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():  # looking through the tower leaves the model as it was
        torch.testing.assert_close(
            loaded.model.encode_image(images), expected, rtol=1e-5, atol=1e-5
        )


def test_maps_have_the_right_shape_at_sizes_that_are_not_square(clip):
    loaded, modes = clip
    patch, channels = loaded.patch, None
    tower = FrozenTower(loaded, "clipself", [0, -1])
    assert modes is None or tower.modes == modes
    results = tower.all_modes(torch.randn(2, 3, patch * 3, patch * 5))
    assert set(results) == set(tower.modes)
    for features in results.values():
        assert features.dense.shape == (2, loaded.embed_dim, 3, 5)
        norms = features.dense.norm(dim=1)
        torch.testing.assert_close(norms, torch.ones_like(norms))
        for tap in features.taps:
            channels = channels or tap.shape[1]
            assert tap.shape == (2, channels, 3, 5) and torch.isfinite(tap).all()
    with pytest.raises(ValueError, match="multiples"):
        tower(torch.randn(1, 3, patch * 3, patch * 5 + 1))


def test_taps_are_block_outputs_in_row_order(clip):
    """A hook on the block sees the same; token i lies at row i // w, column i % w."""
    loaded, _ = clip
    tower = FrozenTower(loaded, "clipself", [1])
    seen = []
    handle = tower.trunk.blocks[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    features = tower(torch.randn(1, 3, loaded.patch * 2, loaded.patch * 3))
    handle.remove()
    tokens = seen[0][:, tower.trunk.prefix :]
    for i in range(6):
        torch.testing.assert_close(features.taps[0][0, :, i // 3, i % 3], tokens[0, i])


def test_clipself_of_a_token_is_the_block_run_on_it_alone(clip):
    loaded, _ = clip
    tower = FrozenTower(loaded, "clipself")
    trunk = tower.trunk
    images = torch.randn(1, 3, loaded.patch * 2, loaded.patch * 3)
    dense = tower(images).dense
    x, context = trunk.embed(images)
    for block in trunk.blocks[:-1]:
        x = trunk.run(block, x, context)
    if context is not None:
        pytest.skip("rotary positions need the whole grid; see the value path of EVA below")
    alone = x[:, trunk.prefix + 4 : trunk.prefix + 5]
    expected = functional.normalize(trunk.head(trunk.run(trunk.blocks[-1], alone, None)), dim=-1)
    torch.testing.assert_close(dense[:, :, 1, 1], expected[:, 0], rtol=1e-4, atol=1e-5)


def _before_last(trunk, images):
    x, context = trunk.embed(images)
    for block in trunk.blocks[:-1]:
        x = trunk.run(block, x, context)
    return x


def test_modes_follow_their_equations():
    """The value path written out in matrices, for OpenAI's block."""
    loaded = random_clip("ViT-B-16-quickgelu", layers=2, width=64, head_width=32)
    tower = FrozenTower(loaded, "catseg")
    images = torch.randn(2, 3, 32, 48)
    trunk, block = tower.trunk, tower.trunk.blocks[-1]
    found = tower.all_modes(images)
    with torch.no_grad():
        x = _before_last(trunk, images)
        width = x.shape[-1]
        weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
        a = block.attn.out_proj(functional.linear(block.ln_1(x), weight, bias))
        visual = loaded.model.visual

        def head(tokens):
            out = functional.normalize(visual.ln_post(tokens)[:, 1:] @ visual.proj, dim=-1)
            return out.transpose(1, 2).reshape(2, -1, 2, 3)

        expected = {"maskclip": a, "tokens": block(x)}
        for mode, y in (("clipself", x + a), ("catseg", x[:, :1] + a)):
            expected[mode] = y + block.mlp(block.ln_2(y))
        for mode, tokens in expected.items():
            torch.testing.assert_close(found[mode].dense, head(tokens), rtol=1e-4, atol=1e-5)


def test_value_path_of_eva():
    """EVA02 puts a norm between the values and the output projection."""
    loaded = random_clip("EVA02-B-16")
    tower = FrozenTower(loaded, "maskclip")
    images = torch.randn(1, 3, 32, 48)
    found = tower(images).dense
    with torch.no_grad():
        x = _before_last(tower.trunk, images)
        block, trunk, attn = tower.trunk.blocks[-1], tower.trunk.trunk, tower.trunk.blocks[-1].attn
        a = attn.proj(attn.norm(attn.v_proj(block.norm1(x))))
        expected = functional.normalize(trunk.head(trunk.fc_norm(trunk.norm(a)))[:, 1:], dim=-1)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), expected, rtol=1e-4, atol=1e-5)


def test_attnpool_of_one_token_is_the_image_embedding():
    """On an image of one patch, pooling over the token alone is pooling over the image."""
    loaded = random_clip("ViT-B-16-SigLIP2")
    tower = FrozenTower(loaded, "attnpool")
    image = torch.randn(2, 3, 16, 16)
    expected = functional.normalize(tower.image_embedding(image), dim=-1)
    torch.testing.assert_close(tower(image).dense[:, :, 0, 0], expected, rtol=1e-4, atol=1e-5)


def test_average_pooling_is_the_mean_of_unnormalised_tokens():
    from clclip.clip.embedded.model import register

    register()
    loaded = random_clip("embedded")
    tower = FrozenTower(loaded, "tokens")
    image = torch.randn(1, 3, 64, 64)
    x, _ = tower.trunk.embed(image)
    with torch.no_grad():
        for block in tower.trunk.blocks:
            x = block(x)
        mean = tower.trunk.head(x)[:, 1:].mean(dim=1)
    torch.testing.assert_close(tower.image_embedding(image), mean, rtol=1e-4, atol=1e-5)


def test_a_token_alone_is_a_token_masked_from_all_others():
    loaded = random_clip("ViT-B-16", layers=1, width=64, head_width=32)
    trunk = FrozenTower(loaded, "maskclip").trunk
    block, x = trunk.blocks[-1], torch.randn(2, 7, 64)
    mask = torch.full((7, 7), float("-inf")).fill_diagonal_(0.0)
    with torch.no_grad():
        masked = block.ls_1(block.attention(block.ln_1(x), attn_mask=mask))
        torch.testing.assert_close(alone(trunk, block, x), masked, rtol=1e-4, atol=1e-5)


def test_positions_are_resized_with_the_class_row_kept():
    position = torch.randn(1 + 4 * 4, 8)
    assert resized_position(position, (4, 4), (4, 4)) is position
    resized = resized_position(position, (4, 4), (6, 3))
    assert resized.shape == (1 + 18, 8)
    assert torch.equal(resized[0], position[0])
    ramp = torch.arange(4.0).repeat(4).reshape(16, 1)  # grows to the right
    grown = resized_position(torch.cat([ramp[:1], ramp]), (4, 4), (4, 8))[1:].reshape(4, 8)
    assert (grown.diff(dim=1) > -0.05).all() and grown.std(dim=0).max() < 1e-5


def test_frozen_means_no_gradient_and_evaluation_mode():
    loaded = random_clip("ViT-B-16", layers=2, width=64, head_width=32)
    tower = FrozenTower(loaded, "clipself", [0]).train()
    assert not tower.training and not any(m.training for m in tower.modules())
    assert not any(p.requires_grad for p in tower.parameters())
    features = tower(torch.randn(1, 3, 32, 32, requires_grad=True))
    assert not features.dense.requires_grad and not features.taps[0].requires_grad


def test_wrong_modes_and_taps_are_named():
    loaded = random_clip("ViT-B-16", layers=2, width=64, head_width=32)
    with pytest.raises(InputError, match=r"attnpool.*clipself"):
        FrozenTower(loaded, "attnpool")
    with pytest.raises(InputError, match="tap 2"):
        FrozenTower(loaded, "clipself", [2])
    with pytest.raises(InputError, match="no patch tokens"):
        trunk_of(nn.Linear(2, 2))
