"""Zero-shot CLIP from the feature store, and the texts that a store does not hold."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

from clclip.classification.features.layout import own_sentences, sentences_file
from clclip.classification.zeroshot import stages
from clclip.core.errors import InputError
from clclip.core.task import read_task
from clclip.workflow.fingerprint import used_modules
from tests.helpers import closed_form as making

GROUPS = [["ant", "bee"], ["cat", "dog"], ["elk", "fox"]]


def run(files, resources):
    """Run a stream; return the last task's probabilities, classes as they were seen."""
    for file in files:
        stages.train(file, resources)
        stages.predict(file, resources)
    return np.array(
        json.loads((files[-1].parent / "predictions.json").read_text())["probabilities"]
    )


def by_hand(data, rows):
    """Return softmax(20 cos) of the test features and texts."""
    features = data["test"][0].astype(float)
    logits = 20 * features / np.linalg.norm(features, axis=1, keepdims=True) @ rows.T
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    return found / found.sum(axis=1, keepdims=True)


def test_answers_are_the_softmax_of_cosines_with_the_texts(tmp_path):
    data = making.draw(2)
    files = making.write_stream(tmp_path, "zeroshot", GROUPS, data)
    found = run(files, tmp_path / "resources")
    assert np.allclose(found, by_hand(data, data["text"]), atol=1e-6)


def test_no_training_image_is_read(tmp_path):
    files = making.write_stream(tmp_path, "zeroshot", GROUPS, making.draw())
    (tmp_path / "resources/features/store/train/done.json").unlink()
    for file in files:
        (file.parent / "train.json").unlink()
    assert run(files, tmp_path / "resources").shape == (30, 6)


def test_texts_of_a_tasks_own_come_from_their_file(tmp_path):
    data = making.draw(4)
    text = {"dog": "a hound", "elk": "moose", "fox": "fox"}
    files = making.write_stream(tmp_path, "zeroshot", GROUPS, data, text=text)
    assert own_sentences(read_task(files[1]))[1] == ["a hound"]
    assert own_sentences(read_task(files[2]))[1] == ["moose"]
    with pytest.raises(InputError, match="no such file"):
        run(files, tmp_path / "resources")
    rows = data["text"].copy()
    for file, number in ((files[1], 3), (files[2], 4)):
        rows[number] = -rows[number]
        path = sentences_file(read_task(file), tmp_path / "resources")
        path.parent.mkdir(exist_ok=True)
        save_file({"text": rows[number : number + 1]}, path)
    found = run(files, tmp_path / "resources")
    assert np.allclose(found, by_hand(data, rows), atol=1e-6)


def test_words_and_underscores_are_the_same_sentence(tmp_path):
    files = making.write_stream(tmp_path, "zeroshot", [["ant_hill"]], making.draw(), text={})
    task = read_task(files[0]) | {"text": {"ant_hill": "ant hill"}}
    assert own_sentences(task)[1] == []
    other = task | {"switches": {"template": "art of {}."}}
    assert own_sentences(other) == ("art of {}.", ["ant hill"])


def test_texts_of_another_number_are_refused(tmp_path):
    files = making.write_stream(
        tmp_path, "zeroshot", GROUPS, making.draw(), text={"bee": "honey bee"}
    )
    path = sentences_file(read_task(files[0]), tmp_path / "resources")
    path.parent.mkdir()
    save_file({"text": np.zeros((2, making.WIDTH), np.float32)}, path)
    with pytest.raises(InputError, match="text embeddings of shape"):
        stages.train(files[0], tmp_path / "resources")


@pytest.mark.parametrize("method", ["closed_form", "rapf", "vis", "zeroshot"])
def test_a_task_of_stored_features_has_no_tower_in_its_fingerprint(method):
    module = f"clclip.classification.{method}.stages"
    used = used_modules(module)
    assert not [name for name in used if ".seca." in name or name.startswith("clclip.clip")]
    assert f"{module.rpartition('.')[0]}.stages" in used
    assert not [name for name in used if name.endswith("builder")]
    code = f"import {module}, sys; assert not {{'torch', 'open_clip'}} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
