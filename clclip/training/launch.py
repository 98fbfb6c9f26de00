"""Training one task in several processes: torch's own launcher, started by the stage itself.

Every process runs the method's ordinary ``train`` on its share of each batch (``shares.py``);
process 0 writes the files. On a GPU each process has a device and NCCL joins them, else they share
the CPU through gloo. Several nodes: inside an allocation of SLURM, one launcher runs on each node.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from clclip.core.errors import InputError

logger = logging.getLogger(__name__)

PORTS = 20_000, 10_000  # of the rendezvous between nodes: the first, and how many jobs share


def launch(
    stages: str,
    task_file: Path,
    resources: Path,
    attempt: int,
    devices: int,
    nodes: int,
    log: Path | None,
) -> None:
    """Train a task in ``devices`` processes on each of ``nodes`` nodes.

    Args:
        stages: the module with the kind's ``train``.
        task_file: task.json of the task.
        resources: folder of resources.
        attempt: see ``shares.micro_batches``.
        devices: processes, and GPUs where there are any, per node.
        nodes: nodes.
        log: the stage's log file, which process 0 goes on writing.

    Raises:
        InputError: if the stage meets bad input, or the machine lacks what is asked for.
    """
    _check(devices, nodes)
    if nodes > 1:
        _launch_everywhere(stages, task_file, resources, attempt, devices, nodes, log)
    else:
        run_launcher(stages, task_file, resources, attempt, devices, 1, log, "localhost:0")


def _check(devices: int, nodes: int) -> None:
    """Raise InputError if training cannot be spread as asked."""
    available = torch.cuda.device_count()
    if available and devices > available:
        what = f"{devices} devices, but this job sees {available}"
        expected = "as many as the job has (e.g. --set-resources train_task:gpu=N)"
        raise InputError(what, "training.devices", expected)
    if nodes > 1 and not ("SLURM_JOB_ID" in os.environ and shutil.which("srun")):
        expected = "1, or a job of SLURM that has these nodes"
        raise InputError(f"got {nodes}", "training.nodes", expected)


def _launch_everywhere(
    stages: str,
    task_file: Path,
    resources: Path,
    attempt: int,
    devices: int,
    nodes: int,
    log: Path | None,
) -> None:
    """Start one launcher per node of this job; each does what ``main`` says."""
    first, count = PORTS
    endpoint = f"{os.uname().nodename}:{first + int(os.environ['SLURM_JOB_ID']) % count}"
    own = [stages, task_file, resources, attempt, devices, nodes, log or os.devnull, endpoint]
    command = ["srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"]
    command += [sys.executable, "-m", "clclip.training.launch", *map(str, own)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"training on {nodes} nodes failed: {last}")


def run_launcher(
    stages: str,
    task_file: Path,
    resources: Path,
    attempt: int,
    devices: int,
    nodes: int,
    log: Path | None,
    endpoint: str,
) -> None:
    """Run this node's processes to their end."""
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=devices,
        run_id=os.environ.get("SLURM_JOB_ID") or uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        local_addr="localhost" if nodes == 1 else None,
        max_restarts=0,
        monitor_interval=0.2,
    )
    logger.info("training in %d processes on %d node(s)", devices * nodes, nodes)
    try:
        answers = elastic_launch(config, worker)(stages, task_file, resources, attempt, log)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        reported = failure.message
        text = str(reported.get("message", reported) if isinstance(reported, dict) else reported)
        last = (text.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"process {rank} of {devices * nodes} failed: {last}") from None
    for answer in answers.values():
        if answer is not None:
            raise InputError(*answer)


def worker(
    module: str, task_file: Path, resources: Path, attempt: int, log: Path | None
) -> tuple[str, str, str] | None:
    """Train as one of several processes; return what an InputError says, if one ends it."""
    stages = importlib.import_module(module)
    local, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    _log_to(log if int(os.environ["RANK"]) == 0 else None)
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // count))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    distributed.barrier()  # nobody may leave with bad input while others are still connecting
    try:
        stages.train(task_file, resources, attempt)
    except InputError as error:
        return str(error.what), str(error.where), str(error.expected)
    finally:
        distributed.destroy_process_group()
    return None


def _log_to(log: Path | None) -> None:
    """Append to the stage's log; the processes beside the first one keep quiet."""
    if log is None:
        logging.getLogger().setLevel(logging.CRITICAL)
        return
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, filename=log, force=True)


def main(arguments: list[str]) -> None:
    """Run one node's launcher; the arguments are those of ``_launch_everywhere``."""
    stages, task_file, resources, attempt, devices, nodes, log, endpoint = arguments
    paths = Path(task_file), Path(resources)
    numbers = int(attempt), int(devices), int(nodes)
    run_launcher(stages, *paths, *numbers, Path(log), endpoint)


if __name__ == "__main__":
    main(sys.argv[1:])
