"""``wandb: online`` without key or network, and a network that is lost while a task trains."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest

from clclip.core.errors import InputError
from clclip.training import online, tracking
from tests.helpers.bad_input.world import snapshot

KEY = "0123456789012345678901234567890123456789"
BUCKET = {"id": "b", "name": "n", "displayName": "d", "historyLineCount": 0}
BUCKET["project"] = {"name": "clclip", "entity": {"name": "someone"}}


class Server:
    """As much of a wandb server as opening a run asks for; ``answer`` replaces what it says."""

    def __init__(self, answer=None):
        outer = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                outer.asked.append(body)
                status, content = (answer or Server.served)(body)
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_PUT = do_POST

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @staticmethod
    def served(body):
        """Answer what opening a run asks."""
        name = re.search(rb"(?:query|mutation) ?(\w*)", body)
        data = {"viewer": {"id": "x"}} if b"viewer { id }" in body else {}
        if name and name[1] == b"RunResumeStatus":
            data = {"model": None}
        if name and name[1] == b"UpsertBucket":
            data = {"upsertBucket": {"bucket": BUCKET, "inserted": True}}
        return 200, json.dumps({"data": data}).encode()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve():
    """Return a function that starts a server; all are stopped at the end."""
    started = []

    def start(answer=None):
        started.append(Server(answer))
        return started[-1]

    yield start
    for server in started:
        server.stop()


ANSWERS = {
    "key refused": (lambda _: (401, b"{}"), "refuses the key", "wandb login"),
    "key of nobody": (lambda _: (200, b'{"data":{"viewer":null}}'), "refuses the key", "login"),
    "server at fault": (lambda _: (503, b""), "it answers 503", "wandb: offline"),
    "a login page of the network": (lambda _: (200, b"<html>"), "something else", "wandb: offline"),
    "no answer": (lambda _: (time.sleep(2), b"")[1:] * 2, "no answer", "wandb: offline"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_server_says(serve, monkeypatch, name):
    answer, what, expected = ANSWERS[name]
    server = serve(answer)
    monkeypatch.setattr(online, "_server_and_key", lambda: (server.address, KEY))
    monkeypatch.setattr(online, "LIMIT_SECONDS", 1.0)
    with pytest.raises(InputError, match=f"{what}.*{expected}"):
        online.check_online()


def test_a_key_that_the_server_takes(serve, monkeypatch):
    server = serve()
    monkeypatch.setattr(online, "_server_and_key", lambda: (server.address, KEY))
    online.check_online()
    assert len(server.asked) == 1


def training(folder, **environment):
    """Start a training by hand, which must not get as far as reading its task."""
    values = {k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "CLCLIP_WANDB"))}
    return subprocess.run(
        [sys.executable, "-m", "clclip", "train", "--task", "none/task.json"],
        cwd=folder,
        env=values | {"HOME": str(folder), "NETRC": str(folder / "netrc")} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("environment", "parts"),
    [
        ({}, ["no key of Weights & Biases", "`wandb login`", "wandb: offline"]),
        ({"WANDB_API_KEY": "short"}, ["no usable key", "`wandb login`"]),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}, ["cannot be reached"]),
        ({"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "nowhere"}, ["no usable key", "URL"]),
    ],
)
def test_a_training_that_could_log_nothing_is_refused_within_seconds(tmp_path, environment, parts):
    start, before = time.monotonic(), snapshot(tmp_path)
    done = training(tmp_path, CLCLIP_WANDB="online", **environment)
    assert done.returncode == 2 and time.monotonic() - start < 30, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and all(part in line for part in parts), line
    assert KEY not in line and snapshot(tmp_path) == before


@pytest.mark.parametrize("environment", [{}, {"CLCLIP_WANDB": "offline"}])
def test_nothing_is_asked_where_wandb_is_not_online(tmp_path, environment):
    assert "none/task.json" in training(tmp_path, **environment).stderr
    checked = {"CLCLIP_WANDB": "online", "CLCLIP_WANDB_CHECKED": "1"}  # as in a job of a run
    assert "none/task.json" in training(tmp_path, **checked).stderr


class Run:
    """A run of wandb that fails at every call from the ``good``-th on."""

    def __init__(self, good):
        self.left, self.summary = good, {}

    def log(self, values, step):
        self.left -= 1
        if self.left < 0:
            raise BrokenPipeError(32, "the service of wandb is gone")

    def finish(self):
        self.log({}, 0)


@pytest.mark.parametrize(("opens", "good"), [(False, 0), (True, 0), (True, 1), (True, 2)])
def test_a_fault_of_wandb_ends_no_training(tmp_path, monkeypatch, caplog, opens, good):
    import wandb

    def init(**options):
        if options["mode"] == "online" and not opens:
            raise wandb.errors.CommError("context deadline exceeded")
        modes.append(options["mode"])
        return Run(good)

    modes = []
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    run = tracking.WandbRun(tmp_path, {}, "online")
    for step in (1, 2):
        run({"step": step, "loss": 0.5})
    run.close()
    assert modes == ["online" if opens else "offline"]
    assert sum("wandb: " in line for line in caplog.messages) == 3 - good + (not opens)


TRACK = """
import json, sys, time
from pathlib import Path
from clclip.training import tracking
tracking.START_SECONDS, tracking.FINISH_SECONDS = 3.0, 2.0
run = tracking.WandbRun(Path("a/exp/seed0/task1"), {}, "online")
run({"step": 1, "loss": 1.0})
print("opened", flush=True)
sys.stdin.readline()
for step in range(2, 40):
    run({"step": step, "loss": 1.0})
run.close()
print("ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["before the run", "while it trains"])
def test_a_server_that_is_lost(serve, tmp_path, lost):
    server = serve((lambda _: (500, b"")) if lost == "before the run" else None)
    (tmp_path / "a/exp/seed0/task1").mkdir(parents=True)
    values = {"HOME": str(tmp_path), "WANDB_API_KEY": KEY, "WANDB_BASE_URL": server.address}
    child = subprocess.Popen(
        [sys.executable, "-c", TRACK],
        cwd=tmp_path,
        env=os.environ | values,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "opened\n"
    if lost == "while it trains":
        assert any(b"UpsertBucket" in body for body in server.asked)
        server.stop()
    out, _ = child.communicate("\n", timeout=60)
    assert out == "ended\n" and child.returncode == 0
    kept = "offline-run-*" if lost == "before the run" else "run-*"
    assert list((tmp_path / "a/exp/seed0/task1/wandb").glob(f"{kept}/*.wandb"))
