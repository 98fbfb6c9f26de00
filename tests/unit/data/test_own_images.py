"""Images of the user's own, as `detect` and `classify` take them."""

from pathlib import Path

import pytest
from PIL import Image

from clclip.core.errors import InputError
from clclip.core.task import resources_of
from clclip.data.images import IMAGE_SUFFIXES, inspect
from clclip.data.own_images import find_images


def test_of_a_folder_come_all_images_by_name(tmp_path):
    for suffix in IMAGE_SUFFIXES:
        Image.new("RGB", (4, 4)).save(tmp_path / f"x{suffix.upper()}", "PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._x.png").write_bytes(b"laid beside a photo by macOS")
    (tmp_path / ".thumbnail.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    names = [path.name for path in find_images([tmp_path])]
    assert names == sorted(f"x{suffix.upper()}" for suffix in IMAGE_SUFFIXES)


def test_a_folder_whose_name_ends_like_an_image_is_a_folder(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "folder.jpg/a.png")
    assert find_images([tmp_path / "folder.jpg"]) == [tmp_path / "folder.jpg/a.png"]


def test_files_come_as_they_are_given(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / ".a")  # asked for by name: hidden or not, any suffix
    assert find_images([tmp_path / ".a"] * 2) == [tmp_path / ".a"] * 2


def test_every_file_is_looked_at(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"GIF89a")
    whole, broken = find_images([tmp_path])  # finding does not decode; whoever reads them does
    inspect(whole)
    with pytest.raises(InputError, match="broken image"):
        inspect(broken)


def test_missing_files_and_empty_folders_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no such image"):
        find_images([tmp_path / "a.png", tmp_path / "c.png"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images"):
        find_images([tmp_path / "empty"])


def test_resources_lie_beside_the_results_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path("project/results/cards/seed0")
    run.mkdir(parents=True)
    assert resources_of(run) == Path("resources")
    (tmp_path / "project/resources").mkdir()
    assert resources_of(run) == tmp_path / "project/resources"
    (tmp_path / "link").symlink_to(run)
    monkeypatch.chdir(run)
    for named in (Path(), Path("../seed0"), tmp_path / "link"):
        assert resources_of(named) == tmp_path / "project/resources"
    assert resources_of(Path("/")) in (Path("resources"), Path("/resources"))
