"""A folder of results that is used again."""

import json
from pathlib import Path

import pytest

from clclip.core.errors import InputError
from clclip.model.use.results_folder import WRITTEN, ResultsFolder


def write(folder, files, given=()):
    with ResultsFolder(folder, given).staged() as work:
        for name, text in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)


def content(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.name != WRITTEN)
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


def test_files_of_one_call_take_the_place_of_those_before(tmp_path):
    out = tmp_path / "out"
    write(out, {"a/1": "x", "a/2": "x", "b/1": "x"})
    write(out, {"a/1": "y"})
    assert content(out) == {"a/1": "y"} and not (out / "b").exists()


def test_a_call_cut_short_while_it_moves_its_files_can_be_made_again(tmp_path, monkeypatch):
    out, replace = tmp_path / "out", Path.replace
    write(out, {"1": "old", "2": "old", "3": "old"})

    def full(self, target):
        if target.name == "2":
            raise OSError("disk full")
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(OSError, match="disk full"):
            write(out, {"1": "new", "2": "new"})
    assert content(out) == {"1": "new", "2": "old", "3": "old"}, "none lost"
    write(out, {"2": "newer"})
    assert content(out) == {"2": "newer"}


def test_a_call_that_fails_leaves_nothing(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError), ResultsFolder(out, []).staged() as work:
        (work / "1").write_text("x")
        raise ZeroDivisionError
    assert not out.exists()


def test_a_file_of_somebody_is_no_place_for_ours(tmp_path):
    (tmp_path / "1").write_text("mine")
    with pytest.raises(InputError, match="1 not as clclip wrote it"):
        ResultsFolder(tmp_path, []).check(["1", "2"])
    with pytest.raises(InputError, match="not as clclip wrote it"):
        write(tmp_path, {"1": "ours", "2": "ours"})
    assert content(tmp_path) == {"1": "mine"}


def test_images_of_this_call_stay_and_are_not_written_over(tmp_path):
    write(tmp_path, {"crops/1": "x", "crops/2": "x"})
    given = [tmp_path / "crops/1"]
    write(tmp_path, {"1": "y"}, given)
    assert content(tmp_path) == {"crops/1": "x", "1": "y"}
    write(tmp_path, {"crops/2": "x"})
    with pytest.raises(InputError, match="crops/2 not as"):
        write(tmp_path, {"crops/2": "y"}, [tmp_path / "crops/2"])


@pytest.mark.parametrize("listed", ["[]", "{", '{"../own": ["x"], "own": 3, "gone": ["x"]}', "7"])
def test_a_list_that_is_not_ours_deletes_nothing(tmp_path, listed):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "own").write_text("mine")
    (out / "own").write_text("mine")
    (out / WRITTEN).write_text(listed)
    write(out, {"1": "ours"})
    assert content(out) == {"1": "ours", "own": "mine"} and (tmp_path / "own").is_file()
    assert set(json.loads((out / WRITTEN).read_text())) == {"1"}
