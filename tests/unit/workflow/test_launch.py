"""`clclip run`: the command line that it becomes."""

import subprocess
import sys

import pytest

from clclip.cli.main import main
from clclip.cli.parser import build_parser
from clclip.config.yaml_files import project_folder
from clclip.core.errors import InputError
from clclip.workflow.start.launch import check_options, command, run


def last(*options, **chosen):
    """Return the part of the command behind Snakemake's own name."""
    return command([], list(options), **chosen)[3:]


def test_the_default_is_the_main_job_on_all_cores():
    project = project_folder()
    assert last() == [
        *("--snakefile", str(project / "workflow/Snakefile")),
        *("--workflow-profile", str(project / "profiles/default")),
        *("--cores", "all"),
    ]


@pytest.mark.parametrize(
    "options", [["--cores", "2"], ["-c2"], ["-j", "3"], ["--jobs=4"], ["--unlock"], ["--lint"]]
)
def test_an_own_number_of_jobs_is_kept(options):
    line = last(*options)
    assert "all" not in line and line[-len(options) :] == options


@pytest.mark.parametrize("options", [["-np"], ["--dry-run"], ["--until", "report"], ["-k"]])
def test_other_options_leave_the_number_of_jobs(options):
    assert last(*options)[-2 - len(options) : -len(options)] == ["--cores", "all"]


def test_an_own_profile_replaces_ours_and_says_how_many_jobs():
    line = last("--workflow-profile", "profiles/slurm")
    assert line.count("--workflow-profile") == 1 and "--cores" not in line


def test_config_of_both_sides_is_one_option():
    """Snakemake reads the last of two."""
    line = command(["a", "b, c.yaml"], ["--config", "wandb=off"], seeds="0,1", data_root="d")
    at = line.index("--config")
    given = ['experiments=["a", "b, c.yaml"]', "seeds=0,1", 'data_root="d"', "wandb=off"]
    assert line[at + 1 :] == given and line.count("--config") == 1


def test_the_smoke_run_leaves_a_target_alone():
    line = last("results/summary.csv", smoke=True)
    assert line[-1] == "results/summary.csv" and line[-2].startswith("--configfile=")


def test_the_smoke_run_takes_no_experiments():
    with pytest.raises(InputError, match="expected it alone"):
        command(["a"], smoke=True)


def test_a_folder_that_cannot_be_written_is_told_before_anything_starts(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        run([sys.executable, "-c", "print('started')"], tmp_path / ("n" * 300))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--nosuchoption"], "unrecognized arguments: --nosuchoption"),
        (["--cores", "x"], "snakemake refuses them (Error parsing number of cores"),
        (["-n", "--until"], "argument --until/-U: expected at least one argument"),
    ],
)
def test_a_wrong_option_of_snakemake_is_one_line(options, told, capsys):
    assert main(["run", "--", *options]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and shown.out == ""


@pytest.mark.parametrize(
    "options", [[], ["--help"], ["-np", "--until", "report"], ["--config", "a=b", "--cores=2"]]
)
def test_options_of_snakemake_pass(options):
    check_options(options)


def test_windows_is_refused_in_one_line():
    """Before a module is missed that Windows has not."""
    code = "import sys; sys.platform = 'win32'\n"
    for name in ("fcntl", "pwd", "resource", "termios"):
        code += f"sys.modules[{name!r}] = None\n"
    code += "from clclip.cli.main import main; main(['list'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "expected Linux or macOS" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "given", "passed_on"),
    [
        (["a", "b.yaml", "--", "-n", "--cores", "1"], ["a", "b.yaml"], ["-n", "--cores", "1"]),
        (["--smoke", "--", "--", "-n"], [], ["--", "-n"]),
        (["a", "--seeds", "1"], ["a"], []),
        (["--"], [], []),
    ],
)
def test_what_follows_two_dashes_is_snakemakes(typed, given, passed_on):
    options = build_parser().parse_args(["run", *typed])
    assert options.experiment == given and options.passed_on == passed_on


@pytest.mark.parametrize("seeds", ["x", "0,1.5", "0,0", "-1", ""])
def test_wrong_seeds_name_their_option(seeds, capsys, monkeypatch):
    monkeypatch.setattr("os.execv", lambda *_: pytest.fail("started"))
    assert main(["run", "smoke_fvit", f"--seeds={seeds}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--seeds" in line and line.startswith("error: ")
