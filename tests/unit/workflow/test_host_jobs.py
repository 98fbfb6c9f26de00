"""What jobs on other hosts are told: paths that hold without the shell the command was typed in."""

from pathlib import Path

from snakemake.cli import parse_config
from snakemake.common import dict_to_key_value_args

from clclip.config.load import find_experiment, is_path, resolved
from clclip.workflow import host


def test_relative_paths_of_the_config_are_absolute_for_jobs(tmp_path):
    typed, work = tmp_path / "typed in", tmp_path / "work"
    for folder in (typed, work):
        folder.mkdir()
    (typed / "mine.yaml").write_text("")
    (typed / "smoke_fvit").write_text("")  # a file that only looks like a shipped name
    (work / "data").mkdir()
    config = {"experiments": "smoke_fvit, mine.yaml,none.yaml", "data_root": "data", "seeds": 1}
    assert host.config_for_jobs(config, [work, typed]) == {
        "experiments": ["smoke_fvit", str(typed / "mine.yaml"), "none.yaml"],
        "data_root": str(work / "data"),
    }
    assert host.config_for_jobs({"experiments": 3}, [work]) == {"experiments": [3]}


def test_listed_experiments_reach_jobs_as_they_are(tmp_path):
    """Snakemake writes a job's config as arguments, and reads numbers inside lists as words."""
    (tmp_path / "base.yaml").write_text("base: smoke_seca\nper_task: {2: {training: {lr: 0.5}}}\n")
    entry = {"name": "mine", "base": "base.yaml", "training": {"epochs": 2, "grad_clip": None}}
    entry |= {"text": {"red circle": "a 'round', red \"thing\", 50 %"}, "data": {"root": "pets"}}
    entry |= {"per_task": {2: {"training": {"weight_decay": 1e-05}}}, "seeds": [3]}
    config = {"experiments": ["smoke_seca", entry]}
    for_jobs = host.config_for_jobs(config, [tmp_path / "work", tmp_path])
    arguments = dict_to_key_value_args(for_jobs, repr_obj=True)
    name, word = parse_config(arguments)["experiments"]
    assert name == "smoke_seca" and not is_path(word)
    assert host.config_for_jobs({"experiments": [word]}, []) == {"experiments": [word]}
    here = resolved(find_experiment(entry, [tmp_path / "work", tmp_path]))
    assert resolved(find_experiment(word, [Path("/elsewhere")])) == here
    assert here[0]["per_task"] == {2: {"training": {"lr": 0.5, "weight_decay": 1e-05}}}
