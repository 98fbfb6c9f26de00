"""Names that a shell or snakemake would act on reach the stages as they are, through a real run."""

import json

import pytest

from tests.helpers.workflow.project import EXPERIMENT, copy_project, make_cards

CLASSES = [
    "; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    'it\'s "quoted"',
    "{input} {{x}} {wildcards.task} %s",
    "a && touch pwned | tee #x \\",
    "--out=pwned",
    "<b>é 日本</b>",
]
ODD = "a 'b' \"c\" $(touch pwned);touch pwned {x}\nnew line é"


@pytest.fixture(scope="module")
def hostile(root, tmp_path_factory):
    """A finished project whose data folder and classes have odd names."""
    project = copy_project(root, tmp_path_factory.mktemp("hostile"))
    folder = project.work / ODD
    make_cards(folder / "cards", CLASSES)
    tasks = [CLASSES[:4], CLASSES[4:]]
    text = {CLASSES[0]: "'; touch pwned; '"}
    project.write(f"{ODD}/odd.yaml", {**EXPERIMENT, "tasks": tasks, "text": text})
    config = project.write("run.yaml", {"experiments": [f"{ODD}/odd.yaml"]})
    title = {"report": {"title": "$(touch pwned) '; touch pwned; '"}}
    looks = project.write("looks.yaml", title)
    project.run(options=["--configfile", str(config), str(looks)])
    return project


def test_class_names_reach_the_task_as_they_are(hostile):
    task = json.loads((hostile.work / "results/odd/seed0/task2/task.json").read_text())
    assert task["groups"] == [CLASSES[:4], CLASSES[4:]]
    assert task["text"] == {CLASSES[0]: "'; touch pwned; '"}


def test_paths_reach_the_stage_as_they_are(hostile):
    (index,) = (hostile.work / "resources/data").glob("*/index.json")  # the stub writes its spec
    assert json.loads(index.read_text())["root"] == str(hostile.work / ODD / "cards")


def test_names_of_texts_and_the_title_reach_their_stages(hostile):
    texts = {p.read_text() for p in (hostile.work / "resources/text").glob("*.safetensors")}
    assert json.dumps(["'; touch pwned; '", *CLASSES[1:4]]) in {
        json.dumps(json.loads(text)) for text in texts
    }
    style = json.loads((hostile.work / "results/report.html").read_text())
    assert style["title"] == "$(touch pwned) '; touch pwned; '"


def test_nothing_was_run(hostile):
    assert [path for path in hostile.home.rglob("pwned*")] == []
    assert not any(path.name.startswith("--") for path in hostile.work.iterdir())
