"""The environments of public reports: locales, matplotlib's settings, accounts without a home."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
import yaml

from clclip.cli.main import main
from clclip.core import homes
from clclip.core.errors import InputError
from tests.helpers.data import TEST, TRAIN, make_coco

POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
LOCALES = {
    "ascii terminal": {"PYTHONIOENCODING": "ascii"},
    "Latin-1 terminal": {"PYTHONIOENCODING": "latin-1"},
    "Cyrillic terminal": {"PYTHONIOENCODING": "koi8-r"},
    "locale of ASCII": POSIX,
    "both": POSIX | {"PYTHONIOENCODING": "ascii:strict"},
}


def python(*arguments, environment=None, cwd=None):
    """Run Python with some variables set, or unset where they are None."""
    values = {**os.environ, **(environment or {})}
    return subprocess.run(
        [sys.executable, *arguments],
        env={key: value for key, value in values.items() if value is not None},
        cwd=cwd,
        capture_output=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """An experiment with characters of three scripts in class, file and folder names."""
    root = tmp_path_factory.mktemp("odd") / "Bäume 猫"

    def renamed(data):
        text = json.dumps(data).replace('"cat"', '"Kätzchen 猫 🐈"').replace('"dog"', '"собака"')
        return text.replace("a.png", "träin 猫.png")

    make_coco(root, renamed(TRAIN), renamed(TEST))
    (root / "images/a.png").rename(root / "images/träin 猫.png")
    experiment = {
        "kind": "detection",
        "method": "fvit",
        "data": {"format": "coco", "root": ".", "images": "images"},
        "tasks": [["собака"], ["Kätzchen 猫 🐈"]],
    }
    experiment["data"] |= {"train": "train.json", "test": "test.json"}
    path = root / "odd.yaml"
    path.write_text(yaml.safe_dump(experiment, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", LOCALES)
def test_a_terminal_that_cannot_show_a_character_ends_nothing(odd, name):
    done = python("-m", "clclip", "describe", str(odd), environment=LOCALES[name])
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode("latin-1")
    assert "\\u732b" in said and "task 2: 1 classes, " in said
    wrong = python("-m", "clclip", "describe", f"{odd}x.yaml", environment=LOCALES[name])
    assert wrong.returncode == 2 and b"no such experiment file" in wrong.stderr


def test_file_names_are_found_whatever_the_locale(odd, tmp_path):
    spec = {"format": "coco", "root": str(odd.parent), "images": "images"}
    spec |= {"train": "train.json", "test": "test.json"}
    line = ["-m", "clclip", "prepare", "--spec", json.dumps(spec), "--out", str(tmp_path)]
    done = python(*line, environment=POSIX)
    assert done.returncode == 0, done.stderr
    train = json.loads((tmp_path / "train.json").read_text())
    assert "träin 猫.png" in [image["file_name"] for image in train["images"]]


DRAW = """
import sys
from clclip.report.plotting import drawing
with drawing({"svg.hashsalt": "x", "svg.fonttype": "none"}):
    from matplotlib.figure import Figure
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([1, 2], label="$a_b$")
    figure.savefig(sys.argv[1], format="svg", metadata={"Date": None})
"""
SETTINGS = {
    "backend of a notebook": ({"MPLBACKEND": "module://nowhere.backend_inline"}, b""),
    "backend that does not exist": ({"MPLBACKEND": "nothing"}, b""),
    "LaTeX, large type": ({}, b"text.usetex: True\nfont.size: 33\naxes.facecolor: black\n"),
    "file that is not UTF-8": ({}, b"font.family: caf\xe9\n"),
}


@pytest.fixture(scope="module")
def plain_figure(tmp_path_factory):
    """Draw with no settings of a user; return the file's digest."""
    return drawn(tmp_path_factory.mktemp("plain"), {"MPLBACKEND": None})


def drawn(folder, environment):
    """Draw a figure in ``folder`` and return its digest."""
    done = python("-c", DRAW, "figure.svg", environment=environment, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return hashlib.sha256((folder / "figure.svg").read_bytes()).hexdigest()


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_user_do_not_reach_our_figures(plain_figure, tmp_path, name):
    environment, settings = SETTINGS[name]
    (tmp_path / "matplotlibrc").write_bytes(settings)
    assert drawn(tmp_path, environment) == plain_figure


def test_settings_of_the_user_come_back_after_drawing():
    import matplotlib

    from clclip.report.plotting import drawing

    with matplotlib.rc_context({"font.size": 31}):
        with drawing({"axes.grid": True}):
            assert matplotlib.rcParams["font.size"] == 10 and matplotlib.rcParams["axes.grid"]
        assert matplotlib.rcParams["font.size"] == 31


VARIABLES = ("HOME", "HF_HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")


@pytest.fixture
def account(monkeypatch):
    """Return a function that sets what an account's environment has, and unknown to the system."""
    import pwd

    def unknown(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    def given(variables):
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        for name in (*VARIABLES, "LOGNAME", "USER", "LNAME", "USERNAME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return given


@pytest.mark.parametrize(
    ("variables", "hub", "plain"),
    [
        ({}, None, None),
        ({"HF_HOME": "/a"}, "/a", "/a/clip"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface", "/c/clip"),
        ({"XDG_CACHE_HOME": "/c", "HF_HOME": "/a"}, "/a", "/c/clip"),
        ({"HF_HUB_CACHE": "/h"}, "/h", None),
        ({"HOME": "/proc"}, "/proc/.cache/huggingface", "/proc/.cache/clip"),
        ({"HOME": "/proc", "HF_HOME": "/a"}, "/a", "/a/clip"),
    ],
)
def test_where_downloads_are_kept(account, variables, hub, plain):
    account(variables)
    found = [folder and str(folder) for folder in (homes.hub_home(), homes.plain_home())]
    assert found == [hub, plain]


@pytest.mark.parametrize("variables", [{}, {"HOME": "/proc"}, {"HF_HOME": "/proc/none"}])
@pytest.mark.parametrize("tag", ["openai", "yfcc15m"])
def test_a_download_that_cannot_be_kept_is_one_line(account, monkeypatch, tmp_path, variables, tag):
    import open_clip

    from clclip.clip.fetch import fetch_clip

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "/.cache")

    account(variables)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(open_clip, "download_pretrained", refuse)
    with pytest.raises(InputError, match="HF_HOME=DIR or XDG_CACHE_HOME=DIR"):
        fetch_clip({"model": "RN50", "tag": tag}, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []  # no folder called "~" either


def test_an_account_without_home_or_name_can_describe(account, tmp_path, monkeypatch, capsys):
    account({})
    monkeypatch.chdir(tmp_path)
    text = "base: smoke_fvit\nclip: {model: ViT-B-16, tag: openai}\n"
    (tmp_path / "vit.yaml").write_text(text)
    assert main(["describe", "vit.yaml"]) == 0
    assert "set HF_HOME" in capsys.readouterr().out
    assert os.environ["LOGNAME"] == f"user{os.getuid()}"


@pytest.mark.parametrize(
    "place", ["/proc/x", "/proc/self/deep/er", "/dev/null/x", "dangling/x", "n" * 300, "file/x"]
)
@pytest.mark.parametrize("command", ["schema", "detect", "classify", "pretrain-clip"])
def test_a_path_that_cannot_be_made_is_bad_input(tmp_path, monkeypatch, capsys, command, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    more = ["--run", "none", "photo.png"] if command in ("detect", "classify") else []
    assert main([command, *more, "--out", f"{place}/{place}" if "n" * 9 in place else place]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "error: cannot be written (" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "file"]
