"""Adapters, prompts, SG-AKT, SE-VPR, replay, inference, each against its equation."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from clclip.classification.inference import hybrid_probabilities
from clclip.classification.seca.adapters import VisualTower, adapter_stack, seeded_dropout
from clclip.classification.seca.frozen import raw_prototypes
from clclip.classification.seca.prompts import PromptedText, new_prompt, template_text, text_tower
from clclip.classification.seca.replay import fit_gaussians
from clclip.classification.seca.sevpr import Refinement, consistency_loss
from clclip.classification.seca.sgakt import (
    Mixer,
    aggregation_loss,
    distillation_loss,
    next_pool,
    updated_utility,
)
from clclip.core.errors import InputError
from clclip.training.seeds import generator
from tests.helpers.seca import CONTEXT, bare_tokenizer, small_clip, tokenizer


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------ adapters
@pytest.mark.parametrize("pool_type", ["avg", "tok", "map"])
def test_fresh_adapter_is_exactly_clip(pool_type):
    model, images = small_clip(pool_type), draw(2, 3, 32, 32)
    tower = VisualTower(model)
    with torch.no_grad():
        adapted = tower.feature(tower.stem(images), adapter_stack(tower, 4, 0.1))
        assert torch.equal(adapted, tower.feature(tower.stem(images), None))
        torch.testing.assert_close(adapted, model.encode_image(images))


def test_adapter_is_parallel_to_the_mlp():
    """The output equals blocks rewritten by hand: out = h + MLP(LN2 h) + s Up ReLU(Down h)."""
    model, images = small_clip("tok"), draw(2, 3, 32, 32)
    tower = VisualTower(model)
    stack = adapter_stack(tower, 4, 0.3, torch.Generator().manual_seed(1))
    for k, adapter in enumerate(stack):
        adapter.up.data = draw(32, 4, seed=k)
    with torch.no_grad():
        x = model.visual._embeds(images)
        for block, adapter in zip(model.visual.transformer.resblocks, stack, strict=True):
            h = x + block.attention(block.ln_1(x))
            x = h + block.mlp(block.ln_2(h)) + 0.3 * F.relu(h @ adapter.down.T) @ adapter.up.T
        expected = model.visual.ln_post(x[:, 0]) @ model.visual.proj
        torch.testing.assert_close(tower.feature(tower.stem(images), stack), expected)


def test_tower_accepts_another_image_size():
    tower = VisualTower(small_clip(), image_size=16)
    with torch.no_grad():
        assert tower.feature(tower.stem(draw(2, 3, 16, 16)), None).shape == (2, 24)
    with pytest.raises(InputError, match="multiple of the patch size 8"):
        VisualTower(small_clip(), image_size=20)


def test_projecting_the_pooled_vector_gives_the_feature():
    for pool_type in ("avg", "tok", "map"):
        model, images = small_clip(pool_type), draw(2, 3, 32, 32)
        tower = VisualTower(model)
        with torch.no_grad():
            pooled = tower.pool(tower.tokens(tower.stem(images), None))
            torch.testing.assert_close(tower.project(pooled), model.encode_image(images))


def test_a_tower_whose_pooling_cannot_be_cut_is_refused():
    model = small_clip("map")
    model.visual.attn_pool_contrastive = model.visual.attn_pool  # CoCa's second pooling
    with pytest.raises(InputError, match="pooling 'attn'"):
        VisualTower(model)


def test_seeded_dropout_keeps_the_mean_and_repeats():
    ones = torch.ones(1000, 16)
    first = seeded_dropout(0.25, torch.Generator().manual_seed(3))(ones)
    assert torch.equal(first, seeded_dropout(0.25, torch.Generator().manual_seed(3))(ones))
    assert first.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert first.mean().item() == pytest.approx(1, abs=0.03)


# ------------------------------------------------------------------ prompts
def test_prompt_of_the_placeholder_embedding_is_the_plain_text():
    """With the tokens of "xx" as the prompt, it is the text "xx" before the name."""
    model = small_clip()
    text = PromptedText(model, tokenizer, ["ab", "c_d"], 2)
    prompt = model.token_embedding(tokenizer(["x"])[0, 1]).expand(2, -1)
    with torch.no_grad():
        expected = model.encode_text(tokenizer(["xxab", "xxc d"]), normalize=True)
        torch.testing.assert_close(text(prompt), expected)
        torch.testing.assert_close(text(prompt, slice(1, None)), expected[1:])
    assert text.ids.shape[1] < CONTEXT  # cut to what a causal mask lets the end token see


def test_prompt_without_start_token_and_with_last_pooling():
    """SigLIP: tokens before the name, no start token, full attention, last position."""
    model = small_clip()
    model.text_pool_type, model.attn_mask = "last", None
    text = PromptedText(model, bare_tokenizer, ["ab", "c"], 2)
    assert text.ids.shape[1] == CONTEXT
    prompt = model.token_embedding(bare_tokenizer(["x"])[0, 0]).expand(2, -1)
    with torch.no_grad():
        expected = model.encode_text(bare_tokenizer(["xxab", "xxc"]), normalize=True)
        torch.testing.assert_close(text(prompt), expected)


def test_a_long_name_is_cut_and_still_ends(caplog):
    text = PromptedText(small_clip(), tokenizer, ["z" * 40, "q"], 8)
    assert text.ids.shape == (2, CONTEXT) and (text.ids == 299).sum(dim=1).tolist() == [1, 1]
    assert "is cut" in caplog.text


def test_prompt_that_leaves_no_room_is_refused():
    with pytest.raises(InputError, match="prompt_length 22"):
        PromptedText(small_clip(), tokenizer, ["a"], 22)


def test_model_without_text_tower_is_refused():
    model = small_clip()
    del model.token_embedding
    with pytest.raises(InputError, match="without a text tower"):
        text_tower(model)


def test_template_text_is_clips_own():
    model = small_clip()
    expected = model.encode_text(tokenizer(["a red cat"]), normalize=True)
    torch.testing.assert_close(template_text(model, tokenizer, ["red_cat"], "a {}"), expected)
    with pytest.raises(InputError, match="template"):
        template_text(model, tokenizer, ["cat"], "no gap")


def test_new_prompts_have_the_published_spread():
    prompt = new_prompt(200, 50, generator(0, 1, "prompt"))
    assert prompt.std().item() == pytest.approx(0.02, rel=0.05)


# ------------------------------------------------------------------ SG-AKT
@pytest.mark.parametrize("relevance", ["softmax_then_mean", "mean_then_softmax"])
def test_mixer_follows_the_equations(relevance):
    mixer = Mixer(6, 8, relevance, torch.Generator().manual_seed(0))
    for k, norm in enumerate((mixer.norm_q, mixer.norm_k, mixer.norm_o)):
        norm.weight.data, norm.bias.data = draw(*norm.weight.shape, seed=k), draw(*norm.bias.shape)
    text = F.normalize(draw(3, 2, 6), dim=-1)
    vectors = F.normalize(draw(3, 4, 8), dim=-1)
    mixed, r = mixer(text, vectors)
    for b in range(3):
        scores = torch.stack(
            [
                torch.stack(
                    [
                        (mixer.w_s @ mixer.norm_q(s)) @ (mixer.w_v @ mixer.norm_k(v)) / math.sqrt(8)
                        for v in vectors[b]
                    ]
                )
                for s in text[b]
            ]
        )  # (s, P)
        if relevance == "softmax_then_mean":
            expected = scores.softmax(dim=1).mean(dim=0)
            out = mixer.norm_o(expected @ mixer.norm_k(vectors[b]))
        else:
            expected = scores.mean(dim=0).softmax(dim=0)
            out = expected @ vectors[b]
        torch.testing.assert_close(r[b], expected)
        torch.testing.assert_close(mixed[b], out)
    torch.testing.assert_close(r.sum(dim=1), torch.ones(3))  # oracle iv


def test_one_pool_entry_is_passed_through():
    """Oracle v: g is the projection of LN_o(LN_k(V)), and the relevance is 1."""
    mixer = Mixer(6, 8, "softmax_then_mean", torch.Generator().manual_seed(0))
    vectors = F.normalize(draw(3, 1, 8), dim=-1)
    mixed, relevance = mixer(draw(3, 2, 6), vectors)
    torch.testing.assert_close(mixed, mixer.norm_o(mixer.norm_k(vectors[:, 0])))
    assert torch.equal(relevance, torch.ones(3, 1))


def test_distillation_is_forward_kl_and_reaches_the_student_alone():
    teacher, student, text = (
        F.normalize(draw(n, 5, seed=n), dim=-1).requires_grad_() for n in (4, 4, 3)
    )
    loss = distillation_loss(teacher, student, text, 20)
    p, q = (20 * teacher @ text.T).softmax(-1), (20 * student @ text.T).softmax(-1)
    torch.testing.assert_close(loss, (p * (p / q).log()).sum(dim=1).mean())
    loss.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad is None and text.grad is None


def test_aggregation_loss_gives_no_gradient_to_the_classifier():
    teacher, text = draw(4, 5).requires_grad_(), draw(3, 5).requires_grad_()
    loss = aggregation_loss(teacher, text, torch.tensor([0, 1, 2, 0]), 100)
    torch.testing.assert_close(
        loss, F.cross_entropy(100 * teacher @ text.T, torch.tensor([0, 1, 2, 0]))
    )
    loss.backward()
    assert teacher.grad.abs().sum() > 0 and text.grad is None


@pytest.mark.parametrize(
    ("evict", "left"),
    [("max_utility", [1, 3, 4]), ("min_utility", [1, 2, 4]), ("oldest", [2, 3, 4])],
)
def test_a_full_pool_drops_by_its_rule(evict, left):
    utility = torch.tensor([0.3, 0.5, 0.2])
    assert next_pool([1, 2, 3], 4, utility, 3, evict) == left


def test_pool_grows_to_its_limit():
    """Oracle iii: at the start of 0-based task t the pool holds min(5, t) entries."""
    pool: list[int] = []
    for task in range(1, 10):
        assert len(pool) == min(5, task - 1)
        utility = torch.rand(len(pool), generator=torch.Generator().manual_seed(task))
        pool = next_pool(pool, task, utility if pool else None, 5, "max_utility")
        assert pool[-1] == task


def test_utility_moves_halfway_to_the_batch_mean():
    relevance = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    moved = updated_utility(torch.tensor([0.2, 0.8]), relevance)
    torch.testing.assert_close(moved, torch.tensor([0.475, 0.525]))


# ------------------------------------------------------------------ SE-VPR
def test_refinement_follows_the_equation():
    refinement = Refinement(6, generator=torch.Generator().manual_seed(0))
    text, raw = F.normalize(draw(4, 6), dim=-1), F.normalize(draw(4, 6, seed=1), dim=-1)
    e = [refinement.h @ refinement.norm_t(t) for t in text]
    rows = []
    for k in range(4):
        weights = torch.stack(
            [torch.exp(-(e[k] - e[j]).square().sum() / (2 * 6**0.5)) for j in range(4)]
        )
        weights = weights / weights.sum()
        torch.testing.assert_close(refinement.affinity(text)[k], weights)
        mixed = weights @ refinement.norm_v(raw)
        rows.append(F.normalize(refinement.norm_p(mixed), dim=0))
    torch.testing.assert_close(refinement(text, raw), torch.stack(rows))
    torch.testing.assert_close(refinement.affinity(text).sum(dim=1), torch.ones(4))  # oracle iv


def test_affinity_extremes():
    """Oracle vi: equal texts share evenly, texts far apart keep to themselves."""
    equal = Refinement(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(equal.affinity(draw(1, 6).expand(3, 6)), torch.full((3, 3), 1 / 3))
    apart = Refinement(6, generator=torch.Generator().manual_seed(0))
    apart.h.data *= 100
    torch.testing.assert_close(apart.affinity(draw(3, 6)), torch.eye(3))


def test_consistency_is_zero_for_unchanged_prototypes():
    """Oracle vii, and the gradient reaches the new side alone."""
    stored = F.normalize(draw(3, 5), dim=-1).requires_grad_()
    assert consistency_loss(stored, stored.detach().clone()).abs() < 1e-6
    new = F.normalize(draw(3, 5, seed=2), dim=-1).requires_grad_()
    loss = consistency_loss(stored, new)
    torch.testing.assert_close(loss, (stored - new).square().sum(dim=1).mean() / 2)
    loss.backward()
    assert stored.grad is None and new.grad.abs().sum() > 0


def test_raw_prototypes_are_normalised_means():
    features, labels = draw(5, 4), torch.tensor([1, 0, 1, 1, 0])
    expected = torch.stack([features[labels == k].mean(dim=0) for k in range(2)])
    torch.testing.assert_close(raw_prototypes(features, labels, 2), F.normalize(expected, dim=-1))


# ------------------------------------------------------------------ inference
def test_hybrid_probabilities_are_per_sample_softmaxes():
    f, text = F.normalize(draw(4, 5), dim=-1), F.normalize(draw(2, 3, 5, seed=1), dim=-1)
    prototypes = F.normalize(draw(3, 5, seed=2), dim=-1)
    by_text = sum((20 * f @ t.T).softmax(dim=1) for t in text) / 2
    expected = 0.5 * by_text + 0.5 * (20 * f @ prototypes.T).softmax(dim=1)
    torch.testing.assert_close(hybrid_probabilities(f, text, prototypes, 20, 0.5), expected)
    torch.testing.assert_close(hybrid_probabilities(f, text, None, 20, 0.5), by_text)
    alone = torch.cat([hybrid_probabilities(x[None], text, prototypes, 20, 0.5) for x in f])
    torch.testing.assert_close(alone, expected, atol=1e-6, rtol=0)


# ------------------------------------------------------------------ replay
def test_gaussians_match_mean_and_covariance():
    features = draw(50, 4) @ draw(4, 4, seed=1) + 3
    labels = torch.zeros(50, dtype=torch.long)
    full = fit_gaussians(features, labels, 1, "full", 2)
    expected = torch.cov(features.T) + 1e-4 * torch.eye(4)
    torch.testing.assert_close(full.covariance()[0], expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(full.mean[0], features.mean(dim=0))
    diagonal = fit_gaussians(features, labels, 1, "diagonal", 2)
    torch.testing.assert_close(diagonal.covariance()[0], torch.diag(expected.diagonal()))
    low = fit_gaussians(features, labels, 1, "lowrank", 2)
    torch.testing.assert_close(low.covariance()[0].diagonal(), expected.diagonal())
    whole = fit_gaussians(features, labels, 1, "lowrank", 4)
    torch.testing.assert_close(whole.covariance()[0], expected, atol=1e-4, rtol=1e-4)
    assert (
        diagonal.mebibytes()
        < low.mebibytes()
        < fit_gaussians(draw(9, 64), torch.zeros(9, dtype=torch.long), 1, "full", 2).mebibytes()
    )


@pytest.mark.parametrize("norm", [1, 400, 4e4, 1e8])
@pytest.mark.parametrize("covariance", ["full", "diagonal", "lowrank"])
def test_gaussians_of_long_features(norm, covariance):
    """Fewer images than dimensions: most directions have no variance but the ridge."""
    features = torch.nn.functional.normalize(draw(20, 512) + 1, dim=1) * norm
    fitted = fit_gaussians(features, torch.zeros(20, dtype=torch.long), 1, covariance, 16)
    variance = features.double().var(dim=0)
    ridge = max(1e-4, 1e-8 * float(variance.mean()))
    found = fitted.covariance()[0].diagonal().double()
    torch.testing.assert_close(found, variance + ridge, rtol=1e-4, atol=0)
    draws, _ = fitted.sample(50, torch.Generator().manual_seed(0))
    assert draws.dtype == torch.float32 and draws.isfinite().all()


@pytest.mark.parametrize("covariance", ["full", "diagonal", "lowrank"])
def test_pseudo_features_have_the_fitted_moments(covariance):
    features = torch.cat([draw(40, 3) * 2, draw(40, 3, seed=5) - 4])
    labels = torch.arange(2).repeat_interleave(40)
    fitted = fit_gaussians(features, labels, 2, covariance, 1)
    x, y = fitted.sample(20_000, torch.Generator().manual_seed(0))
    for k in range(2):
        torch.testing.assert_close(x[y == k].mean(dim=0), fitted.mean[k], atol=0.08, rtol=0)
        torch.testing.assert_close(
            torch.cov(x[y == k].T), fitted.covariance()[k], atol=0.2, rtol=0.1
        )


def test_one_image_leaves_the_ridge_alone():
    fitted = fit_gaussians(draw(1, 3), torch.zeros(1, dtype=torch.long), 1, "full", 2)
    torch.testing.assert_close(fitted.covariance()[0], 1e-4 * torch.eye(3))


def test_distillation_is_the_divergence_of_the_student_from_the_teacher():
    draws = torch.Generator().manual_seed(5)
    teacher, student, text = (
        torch.nn.functional.normalize(torch.randn(n, 8, generator=draws), dim=-1) for n in (6, 6, 4)
    )
    p, q = ((20 * x @ text.T).softmax(-1) for x in (teacher, student))
    forward = (p * (p.log() - q.log())).sum(-1).mean()
    backward = (q * (q.log() - p.log())).sum(-1).mean()
    loss = distillation_loss(teacher, student, text, 20.0)
    torch.testing.assert_close(loss, forward)
    assert not torch.isclose(forward, backward)
