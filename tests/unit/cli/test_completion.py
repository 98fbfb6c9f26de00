"""The scripts of ``clclip completion``, asked by the shells themselves."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from clclip.cli.command import commands as known_commands
from clclip.cli.main import main
from clclip.config.names import known_names


@pytest.fixture
def script(capsys, tmp_path):
    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"clclip.{shell}"
        path.write_text(capsys.readouterr().out)
        return path

    return write


def needs(shell):
    return pytest.mark.skipif(shutil.which(shell) is None, reason=f"no {shell} here")


def ask(program, path, code, folder):
    return subprocess.run(
        [program, *(["-f"] if program == "zsh" else []), "-c", code, program, str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.splitlines()


def bash(path, folder, *words):
    """Return what bash offers for the last word."""
    typed = " ".join(f"'{word}'" for word in words)
    code = f'source "$1"; COMP_WORDS=(clclip {typed}); COMP_CWORD={len(words)}; _clclip\n'
    return ask("bash", path, code + 'printf "%s\\n" "${COMPREPLY[@]}"', folder)


@pytest.fixture
def results(tmp_path):
    for name in ("zoo_fvit", "zoo clclip", "$(touch pwned)"):
        (tmp_path / "results" / name / "seed0").mkdir(parents=True)
        (tmp_path / "results" / name / "summary.json").touch()
    (tmp_path / "results" / "unfinished" / "seed1").mkdir(parents=True)
    return tmp_path


@needs("bash")
def test_bash(script, results):
    path = script("bash")
    assert bash(path, results, "") == list(known_commands())
    assert bash(path, results, "pre") == ["pretrain-clip", "predict", "prepare"]
    assert bash(path, results, "features", "--sp") == ["--split"]
    assert bash(path, results, "features", "--split", "") == ["train", "test"]
    expected = sorted(name for name in known_names() if name.startswith("shapes_10_10_cl"))
    assert bash(path, results, "describe", "shapes_10_10_cl") == expected
    assert {"shapes_10_10_clclip", "shapes_10_10_clclip_paper_no_drift"} < set(expected)
    assert set(bash(path, results, "describe", "")) == set(known_names())
    assert bash(path, results, "completion", "f") == ["fish"]
    assert bash(path, results, "nothing", "") == [""], "left to the names of files"
    assert bash(path, results, "score", "--task", "") == [""]
    assert bash(path, results, "compare", "zoo") == ["zoo clclip", "zoo_fvit"]
    assert bash(path, results, "compare", "zoo_fvit", "") == [
        *("$(touch pwned)", "zoo clclip", "zoo_fvit"),
    ]
    assert bash(path, results, "detect", "--run", "results/u") == ["results/unfinished/seed1"]
    assert not (results / "pwned").exists(), "a folder's name was run"


@needs("bash")
def test_bash_knows_every_option(script, tmp_path):
    from clclip.cli.completion import commands_of
    from clclip.cli.parser import build_parser

    path, commands = script("bash"), commands_of(build_parser())
    assert [command.name for command in commands] == list(known_commands())
    for command in (commands[0], commands[7], commands[-2]):
        found = bash(path, tmp_path, command.name, "--")
        assert found == [option.name for option in command.options] and "--debug" in found


@needs("fish")
def test_fish(script, results):
    path = script("fish")

    def offered(line):
        code = f"source $argv[-1]; complete -C '{line}'"
        return [entry.split("\t")[0] for entry in ask("fish", path, code, results)]

    assert set(offered("clclip pre")) == {"prepare", "pretrain-clip", "predict"}
    assert set(offered("clclip features --split ")) == {"train", "test"}
    assert "--taps" in offered("clclip features --t")
    assert "shapes_10_10_clclip" in offered("clclip describe shapes_10_10_cl")
    assert "zoo_fvit" in offered("clclip compare zoo")
    assert offered("clclip detect --run results/u") == ["results/unfinished/seed1"]


@needs("zsh")
def test_zsh(script, tmp_path):
    """The script loads, registers itself and hands the words of each place to zsh's helpers."""
    path = script("zsh")
    asked = """autoload -U compinit; compinit -D; source $1; print -r -- $_comps[clclip]
    _arguments() { [[ $1 == -C ]] && state=rest; print -rl -- "$@" }
    words=(features); _clclip | grep -e --split
    words=(describe); _clclip | grep '^\\*:words'
    _arguments() { state=command }; _describe() { print -rl -- ${(P)4} }; _clclip"""
    found = ask("zsh", path, asked.replace("$1", '"$1"'), tmp_path)
    assert found[0] == "_clclip"
    assert found[1].startswith("--split[") and found[1].endswith(":words:(train test)")
    assert found[2].startswith("*:words:(") and "shapes_10_10_clclip" in found[2].split()
    assert [line.split(":")[0] for line in found[3:]] == list(known_commands())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "no command 'trian' (did you mean 'train'?)"),
        (["features", "--split", "tran"], "no --split 'tran' (did you mean 'train'?)"),
        (["score", "--tsak", "x"], "no option --tsak (did you mean '--task'?)"),
        (["score", "--task", "x", "--resorces=y"], "(did you mean '--resources'?)"),
        (["score", "--task", "x", "more"], "unrecognized: more"),
        ([], "COMMAND"),
        (["completion", "tcsh"], "no shell 'tcsh'"),
    ],
)
def test_a_mistyped_word_is_told_with_the_nearest_right_one(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1 and error.startswith("error: ")
    assert message in error and "--help" in error
