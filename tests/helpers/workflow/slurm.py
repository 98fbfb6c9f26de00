"""A SLURM of one node on this host, from the distribution's packages, without systemd.

Its munge key, ports and folders are its own. Job steps look for the configuration where clusters
have it, so a link is put there while the daemons run; a host with a SLURM of its own is left alone.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PLACE = Path("/etc/slurm/slurm.conf")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")

CONF = """
ClusterName=clclip
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctl_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
ReturnToService=2
MpiDefault=none
SchedulerParameters=batch_sched_delay=0,sched_interval=2
KillWait=2
MinJobAge=600
OverTimeLimit=0
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 Boards=1 SocketsPerBoard=1 CoresPerSocket=8 \
ThreadsPerCore=1 RealMemory=64000 Gres=gpu:1 State=UNKNOWN
PartitionName=clc Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return why SLURM cannot be started here, or an empty text."""
    if os.geteuid() != 0:
        return "SLURM's daemons need root here"
    if PLACE.exists():
        return f"{PLACE} belongs to a SLURM of this host's own"
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    absent = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if absent:
        return f"no {', '.join(absent)} (apt-get install slurmctld slurmd slurm-client munge)"
    return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def cluster() -> Iterator[None]:
    """Start the daemons; they end with the block."""
    folder = Path(tempfile.mkdtemp(prefix="clclip-slurm-", dir="/tmp"))
    folder.chmod(0o755)  # munged, as a user of its own, must reach its socket
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        daemons.append(_munged(folder / "munge"))
        conf = _configure(folder)
        PLACE.parent.mkdir(exist_ok=True)
        PLACE.unlink(missing_ok=True)  # a link that an aborted test left, to nowhere
        PLACE.symlink_to(conf)
        for name in ("slurmctld", "slurmd"):
            log = (folder / f"{name}.log").open("wb")
            command = [f"/usr/sbin/{name}", "-D", "-f", str(conf)]
            daemons.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT))
        _wait_until_idle(folder)
        yield
    finally:
        if PLACE.is_symlink():
            PLACE.unlink()
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _munged(folder: Path) -> subprocess.Popen[bytes]:
    """Start munged with a key of its own, as the user munge."""
    user = pwd.getpwnam("munge")
    folder.mkdir(mode=0o755)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    for path in (folder, folder / "key"):
        os.chown(path, user.pw_uid, user.pw_gid)
    names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
    names["seed-file"] = "seed"
    options = [f"--{option}={folder / name}" for option, name in names.items()]
    daemon = subprocess.Popen(
        ["/usr/sbin/munged", "--foreground", *options],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 20
    while not (folder / "socket").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    return daemon


def _configure(folder: Path) -> Path:
    """Write the configuration of one node with a pretended GPU; return slurm.conf."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    values = {
        "host": socket.gethostname().split(".")[0],
        "ctl_port": _free_port(),
        "node_port": _free_port(),
        "folder": folder,
    }
    (folder / "slurm.conf").write_text(CONF.format(**values))
    (folder / "gres.conf").write_text("AutoDetect=off\nName=gpu Count=1 File=/dev/null\n")
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    return folder / "slurm.conf"


def _wait_until_idle(folder: Path) -> None:
    """Wait for the node; a daemon that does not come up is told with the end of its log."""
    state, deadline = "", time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True)
        state = done.stdout.strip() or done.stderr.strip()
        if state == "idle":
            return
        time.sleep(0.5)
    logs = "\n".join(p.read_text(errors="replace")[-2000:] for p in folder.glob("*.log"))
    raise RuntimeError(f"SLURM did not start: {state}\n{logs}")
