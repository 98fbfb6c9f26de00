"""The training loop: schedules, exact resume, and what it refuses."""

from __future__ import annotations

import contextlib
import csv
import logging
from itertools import pairwise

import pytest
import torch
from torch import nn

from clclip.core.files import as_input_error
from clclip.report.watch import STEP
from clclip.training import fit as fit_module
from clclip.training import history as history_module
from clclip.training.fit import FitSettings, fit, learning_rate_factor, remove_state
from clclip.training.seeds import derive_seed, generator


class Killed(Exception):
    """Stands for the end of the process."""


def problem(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def losses_at(step, share):
        x = torch.randn(16, 4, generator=generator(seed, "data", step))
        y = model(x)
        return {"fit": (y[:, 0] - x.sum(1)).pow(2).mean(), "size": 0.1 * y.pow(2).mean()}

    return model, losses_at


def run(folder, settings, *, die_at=None, digest="d", optimizer="adamw"):
    model, losses_at = problem()

    def losses(step, share):
        if step == die_at:
            raise Killed
        return losses_at(step, share)

    history = fit(
        dict(model.named_parameters()), losses, settings, label="t", resume=folder, digest=digest
    )
    return model, history


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path, monkeypatch, optimizer, precision
):
    monkeypatch.setenv("CLCLIP_SAVE_SECONDS", "0")
    settings = FitSettings(
        40,
        1e-2,
        16,
        optimizer=optimizer,
        warmup_steps=5,
        weight_decay=0.1,
        grad_clip=1.0,
        precision=precision,
    )
    whole, history = run(tmp_path / "whole", settings)
    for die_at in (7, 23, 38):
        with pytest.raises(Killed):
            run(tmp_path / "cut", settings, die_at=die_at)
    resumed, again = run(tmp_path / "cut", settings)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [row["step"] for row in again.rows] == [row["step"] for row in history.rows]
    assert [row["loss"] for row in again.rows] == [row["loss"] for row in history.rows]
    remove_state(tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_it_goes_on_after_the_last_saved_step_and_says_so(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("CLCLIP_SAVE_SECONDS", "0")
    settings = FitSettings(20, 1e-2, 16)
    with pytest.raises(Killed):
        run(tmp_path, settings, die_at=12)
    seen = []
    model, losses_at = problem()

    def losses(step, share):
        seen.append(step)
        return losses_at(step, share)

    with caplog.at_level(logging.INFO):
        fit(
            dict(model.named_parameters()),
            losses,
            settings,
            label="t",
            resume=tmp_path,
            digest="d",
        )
    assert seen == list(range(12, 20))
    assert "resumed at step 12" in caplog.text


@pytest.mark.parametrize("damage", ["digest", "truncated", "other parameters"])
def test_a_state_that_does_not_belong_is_not_used(tmp_path, monkeypatch, caplog, damage):
    monkeypatch.setenv("CLCLIP_SAVE_SECONDS", "0")
    settings = FitSettings(12, 1e-2, 16)
    clean, _ = run(tmp_path / "clean", settings)
    with pytest.raises(Killed):
        run(tmp_path / "state", settings, die_at=6)
    state = tmp_path / "state" / "state.safetensors"
    if damage == "truncated":
        state.write_bytes(state.read_bytes()[:-50])
    if damage == "other parameters":
        from safetensors.torch import save_file

        metadata = {"digest": "d", "step": "6", "rows": "[]"}
        save_file({"parameter/else": torch.zeros(1)}, state, metadata=metadata)
    digest = "another" if damage == "digest" else "d"
    again, _ = run(tmp_path / "state", settings, digest=digest)
    for a, b in zip(clean.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    assert "starting afresh" in caplog.text


def test_only_the_given_parameters_move(tmp_path):
    model, losses_at = problem()
    frozen = {name: value.clone() for name, value in model.named_parameters() if "0." in name}
    trained = {name: value for name, value in model.named_parameters() if "2." in name}
    before = {name: value.detach().clone() for name, value in trained.items()}
    fit(trained, losses_at, FitSettings(5, 1e-2, 16), label="t", resume=tmp_path, digest="d")
    for name, value in model.named_parameters():
        moved = not torch.equal(value, frozen.get(name, before.get(name)))
        assert moved == (name in trained)


def test_the_learning_rate_follows_its_schedule():
    cosine = FitSettings(100, 1.0, 1, warmup_steps=10)
    values = [learning_rate_factor(step, cosine) for step in range(100)]
    assert values[0] == pytest.approx(1 / 11) and values[10] == 1.0
    assert values[55] == pytest.approx(0.5) and values[-1] < 0.01
    assert all(a < b for a, b in pairwise(values[:11]))
    assert all(a > b for a, b in pairwise(values[10:]))
    steps = FitSettings(100, 1.0, 1, schedule="multistep", milestones=(50, 80))
    factors = [learning_rate_factor(step, steps) for step in (49, 50, 79, 80)]
    assert factors == pytest.approx([1.0, 0.1, 0.1, 0.01])
    assert learning_rate_factor(99, FitSettings(100, 1.0, 1, schedule="constant")) == 1.0


def test_the_scale_of_a_prefix_reaches_the_optimizer(tmp_path):
    model, losses_at = problem()
    parameters = dict(model.named_parameters())
    before = {name: value.detach().clone() for name, value in parameters.items()}
    fit(
        parameters,
        losses_at,
        FitSettings(3, 1e-2, 16),
        label="t",
        resume=tmp_path,
        digest="d",
        lr_scale={"0.": 0.0},
    )
    assert torch.equal(parameters["0.weight"], before["0.weight"])
    assert not torch.equal(parameters["2.weight"], before["2.weight"])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_resumed_run_keeps_moments_in_the_memory_format_of_weights(tmp_path, monkeypatch, layout):
    monkeypatch.setenv("CLCLIP_SAVE_SECONDS", "0")
    settings = FitSettings(6, 1e-2, 2, precision="bf16")

    def trained(folder, die_at=None):
        torch.manual_seed(0)
        model = nn.Conv2d(3, 4, 3).to(memory_format=layout)
        assert model.weight.is_contiguous(memory_format=layout)

        def losses(step, share):
            if step == die_at:
                raise Killed
            x = torch.randn(2, 3, 8, 8, generator=generator(0, "data", step))
            return {"fit": model(x).square().mean()}

        given = dict(model.named_parameters())
        fit(given, losses, settings, label="t", resume=folder, digest="d")
        return model.weight

    whole = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "cut", die_at=3)
    assert torch.equal(trained(tmp_path / "cut"), whole)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_half_precision_steps_by_the_fused_optimizer_to_the_same_place(tmp_path, optimizer):
    given = {"optimizer": optimizer, "weight_decay": 0.1, "grad_clip": 1.0}
    found, _ = run(tmp_path / "half", FitSettings(20, 1e-2, 16, **given, precision="bf16"))
    wanted, _ = run(tmp_path / "whole", FitSettings(20, 1e-2, 16, **given))
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fails", [False, True])
def test_numbers_too_small_to_be_normal_are_zero_in_training_alone(tmp_path, fails):
    parameter, tiny, seen = nn.Parameter(torch.ones(1)), torch.tensor([1e-38]), []

    def losses(step, share):
        seen.append((tiny * 0.1).item())
        return {"p": parameter.sum() * (float("nan") if fails else 1)}

    with pytest.raises(RuntimeError) if fails else contextlib.nullcontext():
        fit({"p": parameter}, losses, FitSettings(2, 0.1, 1), label="t", resume=tmp_path, digest="")
    assert seen[0] == 0.0 and (tiny * 0.1).item() > 0


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(tmp_path):
    parameter = nn.Parameter(torch.ones(1))

    def losses(step, share):
        return {"good": parameter.sum(), "bad": parameter.sum() * float("nan")}

    with pytest.raises(RuntimeError, match=r"bad.*nan"):
        fit(
            {"p": parameter},
            losses,
            FitSettings(3, 0.1, 1),
            label="t",
            resume=tmp_path,
            digest="d",
        )


def test_the_history_is_written_with_every_column(tmp_path):
    rows = []
    model, losses_at = problem()
    history = fit(
        dict(model.named_parameters()),
        losses_at,
        FitSettings(2 * fit_module.RECORD_STEPS + 1, 1e-2, 16),
        label="t",
        resume=tmp_path,
        digest="d",
        listener=rows.append,
    )
    history.write(tmp_path / "history.csv")
    read = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [int(row["step"]) for row in read] == [10, 20, 21]
    assert set(read[0]) == {"step", "loss", "fit", "size", "lr", "images_per_s", "peak_mib"}
    assert float(read[0]["loss"]) == pytest.approx(
        float(read[0]["fit"]) + float(read[0]["size"]), rel=1e-4
    )
    assert [row["step"] for row in rows] == [10, 20, 21]


def test_progress_tells_rate_and_time_left_even_between_two_rows(caplog, monkeypatch):
    """Steps of 10 s, as of a tower on a CPU: no row for 100 s, but lines that ``watch`` reads."""
    clock = [0.0]
    monkeypatch.setattr(history_module.time, "monotonic", lambda: clock[0])
    caplog.set_level(logging.INFO)
    history = history_module.History("task 1", 12, 8)
    for step in range(1, 13):
        clock[0] += 10.0
        if step in (10, 12):
            history.record(step, {"box": 0.5}, 1e-3)
        history.advance(step)
    told = [STEP.search(record.getMessage()).groups("") for record in caplog.records]
    between = [(str(k), "12", "", f"{120 - 10 * k}") for k in (2, 4, 6, 8)]
    assert told == [*between, ("10", "12", "0.500", "20"), ("12", "12", "0.500", "0")]
    assert all("0.8 images/s" in record.getMessage() for record in caplog.records)


def test_seeds_depend_on_every_part_and_its_place():
    parts = [(1, 2, "x"), (2, 1, "x"), (1, 2, "y"), (12, "x"), ("1", 2, "x"), (1, 2, "x", 0)]
    assert len({derive_seed(*part) for part in parts}) == len(parts)
    assert derive_seed(1, 2, "x") == derive_seed(1, 2, "x") < 2**63


def test_a_training_that_diverges_is_told_as_a_wrong_setting(tmp_path):
    model, _ = problem()

    def losses(step, share):
        return {"fit": model(torch.full((1, 4), torch.inf)).sum()}

    with pytest.raises(RuntimeError) as raised:
        fit(
            dict(model.named_parameters()),
            losses,
            FitSettings(20, 1e-2, 16),
            label="t",
            resume=tmp_path,
            digest="d",
        )
    mistake = as_input_error(raised.value)
    assert mistake is not None and "not finite at step" in str(mistake)
    assert "training.lr" in str(mistake) and "fault of clclip" not in str(mistake)
