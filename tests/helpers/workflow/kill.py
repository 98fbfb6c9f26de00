"""A tiny world with everything that training needs, and stages in processes that may be killed.

Children are forked from this process, which has imported torch already: a start takes no time.
"""

import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class World:
    """A working directory and the task of it that is trained and killed."""

    work: Path
    task: Path  # its task.json, relative

    @property
    def folder(self) -> Path:
        return self.work / self.task.parent

    @property
    def state(self) -> Path:
        """The resume state."""
        return self.folder / "resume" / "state.safetensors"

    def start(self, stage: str, *, save_seconds: float) -> int:
        """Start a stage in a process of its own; return its id."""
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:  # nothing of the test may run in the child: it ends here whatever happens
            os.chdir(self.work)
            os.environ["CLCLIP_SAVE_SECONDS"] = str(save_seconds)
            from clclip.cli.main import main

            log = self.task.parent / "logs" / f"{stage}.log"
            status = main([stage, "--task", str(self.task), "--log", str(log)])
        finally:
            os._exit(status)

    def finish(self, stage: str, *, save_seconds: float = 20) -> str:
        """Run a stage to its end; return its log."""
        _, status = os.waitpid(self.start(stage, save_seconds=save_seconds), 0)
        log = (self.folder / "logs" / f"{stage}.log").read_text()
        assert status == 0, log
        return log

    def kill(self, after_state: bool, delay: float, save_seconds: float) -> bool:
        """Start training and kill it; return whether it was still running.

        Args:
            after_state: let the delay count from the first saved state, else from the start.
            delay: seconds.
            save_seconds: seconds between two saved states.
        """
        pid = self.start("train", save_seconds=save_seconds)
        while after_state and not self.state.exists():
            if os.waitpid(pid, os.WNOHANG)[0]:
                return False
            time.sleep(0.002)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.WIFSIGNALED(status)

    def forget(self) -> None:
        """Remove what training and prediction made, and what is kept of it."""
        for name in ("weights.safetensors", "history.csv", "predictions.json", "recall.json"):
            (self.folder / name).unlink(missing_ok=True)
        shutil.rmtree(self.folder / "resume", ignore_errors=True)
        shutil.rmtree(self.work / "resources" / "tasks", ignore_errors=True)


def stage(*arguments: object) -> None:
    """Run a command line in this process."""
    from clclip.cli.main import main

    assert main([str(argument) for argument in arguments]) == 0


def make_world(work: Path, experiment: str, train: int) -> World:
    """Prepare everything up to the training of task ``train``; earlier tasks are trained."""
    from clclip.core.digest import canonical
    from clclip.workflow.plan import plan_run

    (work / "killed.yaml").write_text(experiment)
    plan = plan_run({"experiments": ["killed.yaml"]}, [work])
    before = Path.cwd()
    os.chdir(work)
    try:
        for name, spec in plan.data.items():
            stage("prepare", "--spec", canonical(spec), "--out", f"resources/data/{name}")
        for name, clip in plan.clips.items():
            stage("fetch-clip", "--clip", canonical(clip), "--out", f"resources/clip/{name}")
        for name, text in plan.texts.items():
            clip, names = f"resources/clip/{text['clip']}", canonical(text["names"])
            out = f"resources/text/{name}.safetensors"
            stage("embed-text", "--clip", clip, "--names", names, "--out", out)
        for name, described in plan.features.items():
            for split in ("train", "test"):
                _features(name, described, split)
        for number in range(1, train + 1):
            planned = plan.experiments["killed"].tasks[0, number]
            task = Path(f"results/killed/seed0/task{number}/task.json")
            stage("resolve", "--json", planned.json, "--out", task)
            stage("split", "--task", task)
            if number < train:
                stage("train", "--task", task)
    finally:
        os.chdir(before)
    return World(work, task)


def _features(name, described, split) -> None:
    options = ["--data", f"resources/data/{described['data']}"]
    options += ["--clip", f"resources/clip/{described['clip']}", "--split", split]
    options += ["--size", described["size"], "--dense", described["dense"]]
    options += ["--taps", ",".join(map(str, described["taps"]))]
    if described["flip"] and split == "train":
        options.append("--flip")
    stage("features", *options, "--out", f"resources/features/{name}/{split}")
