"""What a loss of SECA trains, what later tasks leave alone, what the pool keeps."""

from __future__ import annotations

import json

import pytest
import torch

from clclip.classification import stages
from clclip.classification import train as learning
from clclip.classification.pixels import label_columns
from clclip.classification.records import Memory, read_record
from clclip.core.task import current_classes, read_task
from tests.helpers.seca import write_stream
from tests.helpers.seca_streams import GROUPS, prepared, run

pytestmark = pytest.mark.usefixtures("random_clip")


def test_old_prompts_and_refined_prototypes_stay_byte_equal(tmp_path):
    """Oracle ii: a record is never written again, and the memory reads old rows from it."""
    files = write_stream(tmp_path, "seca", GROUPS)
    resources = tmp_path / "resources"
    stages.train(files[0], resources)
    before = (files[0].parent / "weights.safetensors").read_bytes()
    for file in files[1:]:
        stages.train(file, resources)
    assert (files[0].parent / "weights.safetensors").read_bytes() == before
    memory = Memory([read_record(f.parent / "weights.safetensors") for f in files])
    for number, record in enumerate(memory.records):
        assert torch.equal(memory.prompts()[number], record["prompt"])
        assert torch.equal(memory.refined()[2 * number : 2 * number + 2], record["refined"])
    assert memory.refined().shape == (6, 24)


def test_replay_refreshes_all_refined_prototypes(tmp_path):
    records = run(write_stream(tmp_path, "seca_pp", GROUPS[:2]))
    memory = Memory(records)
    assert records[1]["refined"].shape == (4, 24)
    assert not torch.equal(memory.refined()[:2], records[0]["refined"])


def test_text_table_holds_every_prompt_on_every_class(tmp_path):
    files = write_stream(tmp_path, "hpeft", GROUPS)
    memory = Memory(run(files))
    table = memory.text()
    assert table.shape == (3, 6, 24)
    learner, _ = learning.build_learner(
        read_task(files[-1]), Memory(memory.records[:2]), tmp_path / "resources"
    )
    with torch.no_grad():
        for row, prompt in zip(table, memory.prompts(), strict=True):
            torch.testing.assert_close(row, learner.text.encoder(prompt), atol=1e-5, rtol=1e-4)


def test_frozen_parts_are_bit_equal_after_training(tmp_path):
    learner = prepared(write_stream(tmp_path, "seca", GROUPS[:2]))
    before = {k: v.clone() for k, v in learner.model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in learner.trained.values() if p.requires_grad], lr=0.1)
    sum(learner.losses(torch.arange(4), 0).values()).backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in learner.model.state_dict().items())


def test_the_first_task_has_no_teacher(tmp_path):
    """Oracle x."""
    learner = prepared(write_stream(tmp_path, "seca", GROUPS[:1]))
    assert set(learner.losses(torch.arange(4), 0)) == {"ce_text", "ce_visual"}


GRADIENTS = {
    "ce_text": {"adapter", "prompt"},
    "ce_visual": {"adapter", "prompt", "refinement"},
    "consistency": {"prompt", "refinement"},
    "aggregation": {"mixer", "prompt"},
    "distillation": {"adapter"},
    "replay": {"prompt", "refinement"},
}


def test_gradient_map(tmp_path):
    """Oracle ix and the whole table of the reference, section 2.5."""
    learner = prepared(write_stream(tmp_path, "seca_pp", GROUPS))
    losses = learner.losses(torch.arange(4), 0)
    assert set(losses) == set(GRADIENTS)
    names = [name for name, p in learner.trained.items() if p.requires_grad]
    for loss, expected in GRADIENTS.items():
        grads = torch.autograd.grad(
            losses[loss], [learner.trained[n] for n in names], retain_graph=True, allow_unused=True
        )
        found = {
            name.split(".")[0]
            for name, grad in zip(names, grads, strict=True)
            if grad is not None and grad.abs().sum() > 0
        }
        assert found == expected, loss


def test_distillation_weight_grows_with_the_task(tmp_path):
    """beta = beta_scale * (s - 1)."""
    values = []
    for scale in (1.0, 0.1):
        files = write_stream(tmp_path / str(scale), "seca", GROUPS, {"beta_scale": scale})
        values.append(files)
    losses = []
    for files in values:
        resources = files[0].parents[4] / "resources"
        for file in files[:2]:
            # the same earlier tasks for both
            source = values[0][files.index(file)].parent / "weights.safetensors"
            if files is values[0]:
                stages.train(file, resources)
            else:
                (file.parent / "weights.safetensors").write_bytes(source.read_bytes())
        task = read_task(files[-1])
        memory = Memory([read_record(f.parent / "weights.safetensors") for f in files[:2]])
        learner, clip = learning.build_learner(task, memory, resources)
        split = json.loads((files[-1].parent / "train.json").read_text())
        labels = label_columns(split["images"], current_classes(task), files[-1])
        learner.begin_task(
            learning.pixels_of(split, task, resources, learner.context, clip), labels
        )
        losses.append(learner.losses(torch.arange(4), 0)["distillation"])
    torch.testing.assert_close(losses[0], 10 * losses[1])


def test_pool_and_utility_of_a_stream(tmp_path):
    """Oracle iii, and that utility is touched only while the pool is full."""
    groups = [[f"class {k}a", f"class {k}b"] for k in range(4)]
    records = run(write_stream(tmp_path, "seca", groups, {"pool": 2}))
    assert [len(r["pool"]) for r in records] == [1, 2, 2, 2]
    assert [r["pool"].tolist()[-1] for r in records] == [1, 2, 3, 4]
    assert records[1]["utility"].tolist() == [0.5]  # pool not full yet
    assert records[2]["utility"].sum().item() == pytest.approx(1, abs=1e-5)
    assert records[2]["utility"].tolist() != [0.5, 0.5]
    torch.testing.assert_close(records[3]["relevance"].sum(dim=1), torch.ones(2))


def test_teacher_vectors_are_those_of_the_snapshots(tmp_path):
    """The precomputed V of a pooled task is what the tower gives with that task's adapters."""
    files = write_stream(tmp_path, "seca", GROUPS)
    learner = prepared(files)
    images = learner.data.images[range(6)]
    for column, task in enumerate(learner.teacher.pool):
        stack = learner.visual.snapshot(task)
        with torch.no_grad():
            tower = learner.tower
            v = tower.pool(tower.tokens(tower.stem(images), stack))
        expected = torch.nn.functional.normalize(v, dim=-1)
        torch.testing.assert_close(learner.data.frozen.vectors[:, column], expected)
