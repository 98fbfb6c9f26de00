"""What jobs on other hosts are told: paths that hold without the shell the command was typed in."""

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


def test_relative_paths_of_listed_experiments_are_absolute_for_jobs(tmp_path):
    (tmp_path / "base.yaml").write_text("")
    (tmp_path / "weights").write_text("")
    (tmp_path / "pets").mkdir()
    data, clip = {"format": "folder", "root": "pets"}, {"model": "ViT-B-16", "file": "weights"}
    entry = {"name": "mine", "base": "base.yaml", "data": data, "clip": clip, "seeds": [1]}
    named = {"name": "other", "base": "smoke_fvit"}
    config = {"experiments": [entry, named]}
    assert host.config_for_jobs(config, [tmp_path]) == {
        "experiments": [
            entry
            | {"base": str(tmp_path / "base.yaml")}
            | {"data": data | {"root": str(tmp_path / "pets")}}
            | {"clip": clip | {"file": str(tmp_path / "weights")}},
            named,
        ]
    }


def test_listed_experiments_survive_the_command_line_of_a_job():
    """Snakemake writes a job's config as arguments and reads them back."""
    from snakemake.cli import parse_config
    from snakemake.common import dict_to_key_value_args

    training = {"epochs": 2, "lr": 1e-05, "grad_clip": None}
    entry = {"name": "a", "base": "x y/b.yaml", "training": training, "switches": {"gate": "off"}}
    entry |= {"text": {"red circle": "a 'round', red \"thing\""}, "per_task": {2: {"training": {}}}}
    config = {"experiments": ["smoke_seca", entry], "seeds": [3]}
    assert parse_config(dict_to_key_value_args(config, repr_obj=True)) == config
