"""``clclip.load_run``: finished results as plain values, and what it says of unfinished ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

import clclip
from clclip.core.errors import InputError
from clclip.evaluation.diagnosis import diagnose
from tests.helpers.report import world

NAMES = ["red disc", "blue disc", "green disc", "gold disc"]
GROUPS = [NAMES[:2], NAMES[2:]]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two detectors with two seeds, and a classifier with one."""
    root = tmp_path_factory.mktemp("api")
    truth = world.draw_images(root, NAMES, 20)
    for method in ("fvit", "clclip"):
        world.run(root, f"zoo_{method}", method, GROUPS, truth, (0, 3), "2_2")
    world.classify(root, "cil_seca", "seca", [["a", "b"], ["c"]], 0.9)
    return root / "results"


@pytest.fixture
def broken(results, tmp_path):
    """A copy that a test may break."""
    shutil.copytree(results, tmp_path / "results")
    return tmp_path / "results"


def written(results, *parts):
    return json.loads(results.joinpath(*parts).read_text())


def test_numbers_are_those_of_the_files(results):
    run = clclip.load_run(results)
    assert [one.name for one in run] == ["cil_seca", "zoo_clclip", "zoo_fvit"] and len(run) == 3
    one, summary = run["zoo_fvit"], written(results, "zoo_fvit", "summary.json")
    assert (one.kind, one.method, one.dataset, one.protocol) == ("detection", "fvit", "zoo", "2_2")
    assert list(one.seeds) == [0, 3] and one.groups == GROUPS
    for key in ("final", "std", "forgetting", "average", "matrix", "versions", "metric"):
        assert getattr(one, key) == summary[key], key
    assert one.per_class == summary["tasks"][-1]["per_class"]
    assert one.curves["A"] == [task["A"] for task in summary["tasks"]]
    scores = written(results, "zoo_fvit", "seed3", "task2", "scores.json")
    task = one.seeds[3].task(2)
    assert task.scores == scores["metrics"]
    assert task.per_class == {name: row["score"] for name, row in scores["per_class"].items()}
    assert task.objects["red disc"] == scores["per_class"]["red disc"]["objects"] > 0
    assert task.config["training"]["epochs"] == 8
    assert (task.previous_classes, task.current_classes) == (GROUPS[0], GROUPS[1])
    assert one.seeds[3].final == task.scores != one.seeds[0].final
    mean = (one.seeds[0].final["A"] + one.seeds[3].final["A"]) / 2
    assert one.final["A"] == pytest.approx(mean)


def test_tables_are_rows_of_plain_values(results):
    run = clclip.load_run(str(results))
    rows = run.table()
    known = [row["A"] for row in rows]
    assert known == sorted(known, reverse=True) and {row["tasks"] for row in rows} == {2}
    assert rows == json.loads(json.dumps(rows)), "plain values"
    assert next(row for row in rows if row["experiment"] == "cil_seca")["std_A"] is None
    table = run["zoo_clclip"].table()
    assert len(table) == 2 * (2 + 4) and set(table[0]) == {
        *("experiment", "seed", "task", "class", "score", "objects"),
    }


def test_one_experiment_alone(results):
    run = clclip.load_run(results / "zoo_fvit")
    assert [one.name for one in run] == ["zoo_fvit"] and "zoo_fvit" in run and "x" not in run


def test_detections_carry_names(results):
    task = clclip.load_run(results)["zoo_clclip"].seeds[0].task(2)
    raw = written(results, "zoo_clclip", "seed0", "task2", "predictions.json")
    rows = task.predictions()
    assert len(rows) == len(raw)
    names = {5 + k: name for k, name in enumerate(NAMES)}
    assert [row["class"] for row in rows] == [names[row["category_id"]] for row in raw]
    assert rows[0]["file"].endswith(".png") and rows[0]["box"] == raw[0]["bbox"]


def test_diagnosis_of_a_task(results):
    seed = clclip.load_run(results)["zoo_fvit"].seeds[0]
    found = seed.task(2).diagnosis()
    assert found == diagnose(results / "zoo_fvit/seed0/task2/task.json")["classes"] != {}
    assert set(found) <= set(GROUPS[0]) and seed.task(1).diagnosis() == {}


def test_classification_answers(results):
    one = clclip.load_run(results)["cil_seca"]
    task = one.seeds[0].task(2)
    rows = task.predictions()
    share = 100 * sum(row["right"] for row in rows) / len(rows)
    assert share == pytest.approx(task.scores["A"]) and one.final["A"] == task.scores["A"]
    for row in rows:
        assert row["right"] == (row["label"] == row["predicted"])
        assert row["score"] == max(row["probabilities"].values())
    assert task.diagnosis() == {}


def test_comparison_is_that_of_the_command(results):
    found = clclip.load_run(results).compare("zoo_clclip", "zoo_fvit", samples=50)
    part = found.parts["A"]
    assert (
        found.seeds == [0, 3] and part.difference > 0 and part.low <= part.difference <= part.high
    )
    with pytest.raises(InputError, match="samples"):
        clclip.load_run(results).compare("zoo_clclip", "zoo_fvit", samples=0)


def test_history(broken):
    folder = broken / "zoo_fvit" / "seed0" / "task1"
    (folder / "history.csv").write_text("step,loss,lr\n10,1.5,0.001\n20,0.5,\n")
    task = clclip.load_run(broken)["zoo_fvit"].seeds[0].task(1)
    assert task.history() == [{"step": 10, "loss": 1.5, "lr": 0.001}, {"step": 20, "loss": 0.5}]
    (folder / "history.csv").write_text("step,loss\n10,much\n")
    with pytest.raises(InputError, match=r"not a history.*history\.csv"):
        task.history()
    (folder / "history.csv").unlink()
    with pytest.raises(InputError, match="not readable"):
        task.history()


def told(call, *arguments, **options):
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_bad_input_is_one_line(results, broken, tmp_path):
    load = clclip.load_run
    assert "no such folder" in told(load, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "no results" in told(load, tmp_path / "empty")
    assert "one seed" in told(load, results / "zoo_fvit" / "seed0")
    assert "did you mean 'zoo_fvit'" in told(load(results).__getitem__, "zoo_fvti")
    assert "1 to 2" in told(load(results)["zoo_fvit"].seeds[0].task, 3)
    assert "unfinished" in told(load, results, unfinished="maybe")
    (broken / "zoo_fvit" / "summary.json").unlink()
    text = told(load, broken)
    assert "'zoo_fvit' is not finished" in text and "unfinished='skip'" in text
    assert [one.name for one in load(broken, unfinished="skip")] == ["cil_seca", "zoo_clclip"]
    assert "is not finished" in told(load, broken / "zoo_fvit", unfinished="skip")
    (broken / "zoo_fvit" / "summary.json").write_text("[1")
    assert "not JSON" in told(load, broken)
    summary = written(results, "zoo_fvit", "summary.json")
    (broken / "zoo_fvit" / "summary.json").write_text(json.dumps(summary | {"tasks": 3}))
    assert "got 3" in (said := told(load, broken)) and "tasks, expected a list" in said


@pytest.mark.parametrize("name", ["task.json", "scores.json"])
def test_a_missing_file_of_a_task_is_named(broken, name):
    (broken / "zoo_fvit" / "seed3" / "task2" / name).unlink()
    assert f"task2/{name}" in told(clclip.load_run, broken)


def test_the_package_and_its_results_need_no_torch(results):
    code = (
        "import sys, clclip; assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        f"run = clclip.load_run({str(results)!r}); run['zoo_fvit'].seeds[0].task(2).predictions()\n"
        "assert 'torch' not in sys.modules and 'load_run' in dir(clclip)\n"
        "try:\n    clclip.load_runs\nexcept AttributeError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "load_runs" in done.stdout
