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
