"""Streams of tiny tasks: what a loss trains, what later tasks leave alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

import clclip.clip.load
from clclip.classification import stages
from clclip.classification import train as learning
from clclip.classification.classifier import load_classifier
from clclip.classification.pixels import Pixels
from clclip.classification.registry import METHODS, method_options
from clclip.cli.main import main
from clclip.core.errors import InputError
from clclip.core.task import read_task
from clclip.model.use.classify import classify
from tests.helpers.seca import small_clip, tokenizer, write_clip_card, write_stream
from tests.helpers.seca_streams import GROUPS, run

pytestmark = pytest.mark.usefixtures("random_clip")


LEARNERS = [m for m, facts in METHODS.items() if m != "joint" and not facts.closed_form]


@pytest.mark.parametrize("method", LEARNERS)
def test_every_method_runs_and_predicts(tmp_path, method):
    files = write_stream(tmp_path, method, GROUPS[:2])
    run(files)
    for number, file in enumerate(files, start=1):
        found = json.loads((file.parent / "predictions.json").read_text())
        assert found["classes"] == [name for group in GROUPS[:number] for name in group]
        table = torch.tensor(found["probabilities"])
        assert table.shape == (4 * number, 2 * number)
        torch.testing.assert_close(table.sum(dim=1), torch.ones(4 * number), atol=1e-5, rtol=0)
        assert (file.parent / "history.csv").exists()
        assert not (file.parent / "resume").exists()


def test_joint_trains_all_groups_at_once(tmp_path):
    file = write_stream(tmp_path, "joint", GROUPS)[-1]
    folder = file.parent.parent / "task1"
    task = json.loads(file.read_text()) | {"task": 1, "trains": "all"}
    splits = [json.loads((file.parents[1] / f"task{k}/train.json").read_text()) for k in (1, 2, 3)]
    images = [image for split in splits for image in split["images"]]
    (folder / "task.json").write_text(json.dumps(task))
    (folder / "train.json").write_text(json.dumps(splits[0] | {"images": images}))
    record = run([folder / "task.json"])[0]
    assert record["refined"].shape[0] == 6 and "mixer.w_s" not in record
    found = json.loads((folder / "predictions.json").read_text())
    assert found["classes"] == [name for group in GROUPS for name in group]


def test_training_learns(tmp_path):
    """The colours are separable: SECA beats the random zero-shot answers by far."""
    accuracy = {}
    frozen = {"visual": "frozen", "prompt": "template"}  # zero-shot
    for method, switches in (("hpeft", frozen), ("seca", None)):
        files = write_stream(tmp_path, method, GROUPS[:2], switches, epochs=15)
        run(files)
        found = json.loads((files[-1].parent / "predictions.json").read_text())
        best = torch.tensor(found["probabilities"]).argmax(dim=1)
        right = [found["classes"][k] == y for k, y in zip(best, found["labels"], strict=True)]
        accuracy[method] = sum(right) / len(right)
    assert accuracy["seca"] >= 0.75 > accuracy["hpeft"]


@pytest.mark.parametrize(
    "switches",
    [
        {"distillation": "clip"},
        {"distillation": "previous"},
        {"distillation": "average"},
        {"classifier": "centroid"},
        {"classifier": "adapted_centroid"},
        {"classifier": "linear"},
        {"relevance": "mean_then_softmax", "evict": "oldest", "pool": 1},
        {"prompt": "template"},
        {"compare": "seen"},
    ],
    ids=lambda switches: "-".join(map(str, switches.values())),
)
def test_every_switch_changes_the_answers(tmp_path, switches):
    tables = []
    for name, values in (("plain", {}), ("switched", switches)):
        files = write_stream(tmp_path / name, "seca", GROUPS, values)
        run(files)
        found = json.loads((files[-1].parent / "predictions.json").read_text())
        tables.append(torch.tensor(found["probabilities"]))
    assert tables[1].shape == (12, 6)
    assert (tables[0] - tables[1]).abs().max() > 1e-4


@pytest.mark.parametrize("covariance", ["full", "diagonal", "lowrank"])
def test_replay_covariances_run_and_log_their_memory(tmp_path, caplog, covariance):
    caplog.set_level("INFO")
    switches = {"covariance": covariance, "rank": 2}
    records = run(write_stream(tmp_path, "seca_pp", GROUPS[:2], switches))
    ranks = {"full": 24, "diagonal": 0, "lowrank": 2}
    assert records[0]["gaussian.factor"].shape == (2, 24, ranks[covariance])
    held = sum(v.nbytes for name, v in records[0].items() if name.startswith("gaussian."))
    told = {kind: 4 * 2 * 24 * (r + 2) for kind, r in ranks.items()}  # bytes of two classes
    assert held == told[covariance]
    line = next(m for m in caplog.messages if "replay memory: 2 classes" in m)
    assert f"covariance {covariance}, {told[covariance] / 2**20:.2f} MiB" in line
    assert all(f"{kind} {size / 2**20:.2f}" in line for kind, size in told.items())


def test_training_leaves_predictions_for_the_job_that_writes_them(tmp_path, monkeypatch):
    """One start of torch serves both jobs: `train` predicts ahead, into the store."""
    file = write_stream(tmp_path, "seca", GROUPS[:1])[0]
    settings = {"augment": "none", "precision": "fp32", "milestones": [0.5]}
    task = read_task(file)
    file.write_text(json.dumps(task | {"training": task["training"] | settings}))
    given = ["--task", str(file), "--resources", str(tmp_path / "resources")]
    assert main(["train", *given]) == 0
    predictions = file.parent / "predictions.json"
    assert (file.parent / "weights.safetensors").exists() and not predictions.exists()
    stages.predict(file, tmp_path / "resources")
    expected = predictions.read_bytes()
    predictions.unlink()
    monkeypatch.setattr(stages, "predict", None)
    assert main(["predict", *given]) == 0
    assert predictions.read_bytes() == expected
    test = json.loads((file.parent / "test.json").read_text())
    test["images"].pop()
    (file.parent / "test.json").write_text(json.dumps(test))
    assert main(["predict", *given]) != 0  # other images are other work


def test_the_same_task_again_gives_the_same_bytes(tmp_path):
    first = write_stream(tmp_path / "a", "seca", GROUPS[:2])
    second = write_stream(tmp_path / "b", "seca", GROUPS[:2])
    for one, other in zip(run(first), run(second), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_predictions_do_not_depend_on_the_batch(tmp_path):
    """Oracle viii."""
    files = write_stream(tmp_path, "seca", GROUPS[:2])
    run(files)
    classifier = load_classifier(files[-1], tmp_path / "resources")
    paths = sorted((tmp_path / "resources/data/noise/images").glob("test_*.png"))
    pixels = Pixels(paths, classifier.clip, 32, torch.device("cpu"))
    together, alone = classifier.probabilities(pixels), classifier.probabilities(pixels, batch=1)
    backwards = Pixels(paths[::-1], classifier.clip, 32, torch.device("cpu"))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    reversed_order = classifier.probabilities(backwards).flip(0)
    torch.testing.assert_close(together, reversed_order, atol=1e-5, rtol=0)
    assert torch.equal(together.argmax(dim=1), alone.argmax(dim=1))


def test_a_tower_that_pools_by_attention_learns_a_stream(tmp_path, monkeypatch):
    loaded = {"tokenizer": tokenizer, "mean": (0.5,) * 3, "std": (0.25,) * 3}
    clip = SimpleNamespace(model=small_clip("map"), **loaded)
    monkeypatch.setattr(clclip.clip.load, "load_clip", lambda folder: clip)
    first, second = run(write_stream(tmp_path, "seca", GROUPS[:2]))
    moved = [name for name in first if name.startswith("adapter")]
    assert moved and any(not torch.equal(first[name], second[name]) for name in moved)
    assert all(value.isfinite().all() for value in second.values() if value.is_floating_point())


def test_inference_needs_no_pool(tmp_path):
    """Oracle xi: without earlier snapshots and mixer the answers are the same."""
    files = write_stream(tmp_path, "seca", GROUPS)
    run(files)
    before = (files[-1].parent / "predictions.json").read_bytes()
    from clclip.classification.records import write_record

    for file in files:
        path = file.parent / "weights.safetensors"
        needless = ("mixer", "refinement", "pool", "utility", "relevance", "affinity")
        needless += () if file == files[-1] else ("adapter",)
        kept = {k: v for k, v in load_file(path).items() if not k.startswith(needless)}
        write_record(path, kept, {})
    stages.predict(files[-1], tmp_path / "resources")
    assert (files[-1].parent / "predictions.json").read_bytes() == before


def test_classify_names_images(tmp_path):
    files = write_stream(tmp_path, "seca", GROUPS[:2])
    run(files)
    images = sorted((tmp_path / "resources/data/noise/images").glob("test_*.png"))[:3]
    run_folder, out = files[0].parents[1], tmp_path / "out" / "names.json"
    write_clip_card(tmp_path / "resources")
    classify(run_folder, images, out, top=3)
    found = json.loads(out.read_text())
    assert [Path(entry["image"]).name for entry in found] == [p.name for p in images]
    predicted = json.loads((files[-1].parent / "predictions.json").read_text())
    row = predicted["probabilities"][predicted["images"].index(f"test/{images[0].name}")]
    best = found[0]["classes"]
    assert len(best) == 3 and best[0]["probability"] == pytest.approx(max(row), abs=1e-4)
    assert best[0]["class"] == predicted["classes"][row.index(max(row))]
    first = classify(run_folder, images[:1], None, task=1)
    assert {entry["class"] for entry in first[0]["classes"]} == set(GROUPS[0])
    everything = classify(run_folder, [images[0].parent], None)
    assert len(everything) == len(list(images[0].parent.iterdir()))
    for bad, text in (({"task": 7}, "one of 1, 2"), ({"top": 0}, "from 1")):
        with pytest.raises(InputError, match=text):
            classify(run_folder, images, out, **bad)
    with pytest.raises(InputError, match="neither a model nor a run"):
        classify(tmp_path, images, out)
    with pytest.raises(InputError, match="no such image"):
        classify(run_folder, [tmp_path / "gone.png"], out)
    with pytest.raises(InputError, match="no image"):
        classify(run_folder, [run_folder], out)


def test_bad_input_is_one_clear_error(tmp_path):
    files = write_stream(tmp_path, "seca", GROUPS[:2])
    resources = tmp_path / "resources"
    with pytest.raises(InputError, match="train the earlier tasks first"):
        stages.train(files[1], resources)
    split = json.loads((files[0].parent / "train.json").read_text())
    alone = split | {"images": split["images"][2:]}
    (files[0].parent / "train.json").write_text(json.dumps(alone))
    with pytest.raises(InputError, match="class 'ant' has 1 training image"):
        stages.train(files[0], resources)
    wrong = split | {"images": [split["images"][0] | {"label": "owl"}]}
    (files[0].parent / "train.json").write_text(json.dumps(wrong))
    with pytest.raises(InputError, match="label 'owl'"):
        stages.train(files[0], resources)
    (files[0].parent / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="not readable"):
        stages.train(files[1], resources)


def test_unknown_methods_and_switches_are_refused():
    with pytest.raises(InputError, match=r"did you mean 'seca'"):
        method_options("secca", {})
    with pytest.raises(ValueError, match="Extra inputs"):
        method_options("seca", {"poool": 3})
    assert method_options("hpeft", {}).model_copy(
        update={"distillation": "sgakt", "classifier": "sevpr"}
    ) == method_options("seca", {})


def test_an_interrupted_task_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """Killed and started again, a task gives the weights of an uninterrupted run."""
    whole = write_stream(tmp_path / "whole", "seca_pp", GROUPS[:2], {"pool": 1}, epochs=4)
    broken = write_stream(tmp_path / "broken", "seca_pp", GROUPS[:2], {"pool": 1}, epochs=4)
    expected = run(whole)[-1]
    stages.train(broken[0], tmp_path / "broken/resources")
    monkeypatch.setenv("CLCLIP_SAVE_SECONDS", "0")
    original, calls = learning.Learner.losses, []

    def failing(self, rows, step, share):
        calls.append(step)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, rows, step, share)

    monkeypatch.setattr(learning.Learner, "losses", failing)
    with pytest.raises(KeyboardInterrupt):
        stages.train(broken[1], tmp_path / "broken/resources")
    stages.train(broken[1], tmp_path / "broken/resources")
    assert calls[5] == 4  # went on where it stood
    found = load_file(broken[1].parent / "weights.safetensors")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-16", "EVA02-B-16", "ViT-B-16-SigLIP2"])
def test_real_architectures(tmp_path, monkeypatch, name):
    """Adapters and prompts fit the towers of OpenAI, EVA02 and SigLIP2."""
    from open_clip import create_model, get_tokenizer

    from tests.helpers.seca import bare_tokenizer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create_model(name, pretrained=None).eval().requires_grad_(False)

    def siglip(texts):
        return torch.nn.functional.pad(bare_tokenizer(texts), (0, 40))

    chosen = siglip if "SigLIP" in name else get_tokenizer(name)
    loaded = SimpleNamespace(model=model, tokenizer=chosen, mean=(0.5,) * 3, std=(0.5,) * 3)
    monkeypatch.setattr(clclip.clip.load, "load_clip", lambda folder: loaded)
    records = run(write_stream(tmp_path, "seca", GROUPS[:2], epochs=1))
    assert records[1]["adapter.0.down"].shape == (16, 768)
    assert records[1]["adapter.11.up"].abs().sum() > 0
    assert records[1]["prompt"].shape[0] == 8
