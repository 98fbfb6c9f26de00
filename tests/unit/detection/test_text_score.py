"""The text score: log-odds of a path's text classifier beside the experts' scores."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clclip.detection.layers.text_score import TRAINING_WEIGHT, TextClassifier, TextScore
from tests.helpers.detection import DIM, NAMES, batch, clclip, snapshot, step, text_rows

WIDTH = 12


def text_score(seed: int = 0) -> TextScore:
    torch.manual_seed(seed)
    return TextScore(TextClassifier(WIDTH, DIM, temperature=20.0))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    regions=st.integers(1, 9),
    previous=st.integers(0, 3),
    known=st.integers(1, 2),
)
def test_a_score_is_the_log_odds_against_what_is_not_of_the_task_and_nothing_later_enters_it(
    seed, regions, previous, known
):
    module = text_score(seed)
    vectors = torch.randn(regions, WIDTH)
    text = text_rows()
    with torch.no_grad():
        few, logits = module(vectors, text[: previous + known], previous)
        more, _ = module(vectors, text, previous)
    p = logits.double().softmax(1)
    rest = p[:, :previous].sum(1) + p[:, -1]
    odds = (p[:, previous:-1] / rest[:, None]).log()
    assert torch.allclose(few.double(), odds, atol=1e-4)
    assert torch.allclose(more[:, :known], few, atol=1e-5)


def test_scores_teach_nothing_and_the_classifier_learns_from_its_own_loss():
    module = text_score()
    scores, logits = module(torch.randn(6, WIDTH), text_rows(), 2)
    assert not scores.requires_grad
    logits.pow(2).sum().backward()
    assert all(value.grad is not None for value in module.classifier.parameters())


def test_an_old_class_is_no_evidence_against_itself_in_the_loss_of_a_later_task():
    """A region without label may show an old class: its loss is the same whichever it is."""
    model = clclip([NAMES[:3], NAMES[3:]])
    model.begin_task()
    data = batch(classes=3)
    loss = model.losses(data)["text"]
    old = model.text[:3]
    model.text[:3] = old[[2, 0, 1]].clone()
    data.generators[:] = batch(classes=3).generators  # the same regions again
    assert torch.isclose(model.losses(data)["text"], loss, atol=1e-6)


@pytest.mark.parametrize("shared", ["adapters", "drift"])
def test_without_weight_a_detector_scores_as_one_without_text(shared):
    switches = {"shared": shared, "score_threshold": 0.0, "detections": 1000}
    groups = [NAMES[:3], NAMES[3:]]
    with_text = clclip(groups, **switches).eval()
    without = clclip(groups, text_score=False, **switches).eval()
    state = snapshot(with_text)
    assert {name.split(".")[2] for name in set(state) - set(snapshot(without))} == {"text"}
    without.load_state_dict({n: v for n, v in state.items() if ".text." not in n})
    for weight, equal in ((0.5, False), (0.0, True)):
        for path in with_text.paths:
            path.text.gamma.data.fill_(weight)
        pairs = zip(
            with_text.detect(batch(labelled=False)),
            without.detect(batch(labelled=False)),
            strict=True,
        )
        same = [torch.equal(a["scores"], b["scores"]) for a, b in pairs]
        assert all(same) if equal else not any(same)


def test_a_new_path_starts_from_the_first_paths_classifier_and_has_its_own():
    model = clclip([NAMES[:3]])
    model.begin_task()
    step(model, batch(classes=3))
    later = clclip([NAMES[:3], NAMES[3:]])
    later.load_state_dict(snapshot(model), strict=False)
    later.begin_task()
    first, second = (path.text.state_dict() for path in later.paths)
    assert all(torch.equal(first[name], second[name]) for name in first)
    step(later, batch(classes=3))
    first_after, second_after = (path.text.state_dict() for path in later.paths)
    assert all(torch.equal(first[name], first_after[name]) for name in first)
    assert not torch.equal(first["classifier.background"], second_after["classifier.background"])


@pytest.mark.parametrize("shared", ["adapters", "drift", "frozen"])
def test_the_weight_is_small_in_training_and_the_options_when_the_task_ends(shared):
    switches = {"shared": shared, "text_weight": 0.7}
    task = clclip([NAMES[:3]], **switches)
    for _ in range(2):
        task.begin_task()
        assert task.paths[-1].text.gamma == pytest.approx(TRAINING_WEIGHT)
        step(task, batch(classes=3))
        kept = task.fitted(SimpleNamespace(images=[]))
        assert task.paths[-1].text.gamma == pytest.approx(0.7)
        assert kept[f"paths.{len(task.paths) - 1}.text.gamma"] == pytest.approx(0.7)
        later = clclip([NAMES[:3], NAMES[3:]], **switches)
        later.load_state_dict(snapshot(task), strict=False)
        task = later
    assert task.paths[0].text.gamma == pytest.approx(0.7)  # an old path keeps what it detects with


def test_the_loss_is_told_apart_and_absent_without_the_switch():
    for wanted in (True, False):
        model = clclip([NAMES[:3]], text_score=wanted)
        model.begin_task()
        assert ("text" in model.losses(batch(classes=3))) == wanted


@pytest.mark.parametrize("detached", [False, True])
def test_detached_experts_learn_and_leave_the_path_to_the_other_losses(detached):
    model = clclip([NAMES[:3]], detach_experts=detached)
    model.begin_task()
    losses = model.losses(batch(classes=3))
    (losses["score"] + losses["orthogonality"]).backward()
    learn = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert any(name.startswith("banks.0.") for name in learn)
    assert any(name.startswith("paths.0.") for name in learn) is not detached
