"""Nothing of the user's is run: no pickle, no eval, no shell text; and no key of theirs is kept."""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clclip.core.digest import canonical
from tests.helpers import wandb_files
from tests.helpers.bad_input.world import features_call, make_data, plan_of

KEY = "0123456789abcdef0123456789abcdef01234567"  # of the form of a wandb key, nobody's
STORED_KEY = KEY[::-1]  # as `wandb login` keeps one, in the user's netrc

# Calls that run code or unpickle; with the keyword that makes them safe, where there is one.
DANGEROUS = {
    "eval": None,
    "exec": None,
    "compile": None,
    "__import__": None,
    "os.system": None,
    "os.popen": None,
    "pickle.load": None,
    "pickle.loads": None,
    "joblib.load": None,
    "torch.hub.load": None,
    "torch.load": ("weights_only", True),
    "torch.jit.load": None,
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "open_clip.load_checkpoint": ("weights_only", True),
}


def sources(root):
    return sorted((root / "clclip").rglob("*.py"))


def test_no_call_runs_or_unpickles_what_a_user_gives(root):
    found = []
    for path in sources(root):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            given = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            if name in DANGEROUS:
                safe = DANGEROUS[name]
                if safe is None or given.get(safe[0]) is not safe[1]:
                    found.append(f"{path.name}:{node.lineno} {name}")
            if name == "yaml.load" and "UniqueKeyLoader" not in ast.unparse(node):
                found.append(f"{path.name}:{node.lineno} {name}")
            if given.get("shell"):
                found.append(f"{path.name}:{node.lineno} shell=True")
    assert found == []


def test_every_value_in_a_shell_line_is_quoted(root):
    """Unquoted stand only numbers and words of our own: no text of a config or a path."""
    ours = {
        "wildcards.seed", "wildcards.split", "resources.attempt", "params.size", "params.taps",
        "params.flip", "params.protocol", "resources.nodes", "resources.devices",
    }  # fmt: skip
    seen = set()
    for path in sorted((root / "workflow/rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        for block in re.findall(r"^    shell:\n((?:        .*\n?)+)", text, re.MULTILINE):
            seen |= set(re.findall(r"\{([^{}]+)\}", block))
    assert seen and {name for name in seen if not name.endswith(":q")} <= ours


def test_a_protocol_reaches_the_shell_only_by_a_shipped_name(tmp_path):
    from clclip.core.errors import InputError
    from clclip.workflow.plan import plan_run

    text = "kind: detection\nmethod: fvit\nprotocol: 'voc_10_10; touch pwned'\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match="protocol"):
        plan_run({"experiments": ["mine.yaml"]}, [tmp_path])


def test_damaged_cifar_pickle_is_not_opened(tmp_path):
    """The published checksum is compared before anything is unpickled."""
    import pickle

    from clclip.core.errors import InputError
    from clclip.data.readers.cifar import read_splits

    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(pickle.dumps(Touch(tmp_path / "pwned")))
    with pytest.raises(InputError, match="no intact CIFAR-100"):
        read_splits({"format": "cifar100", "root": str(tmp_path)})
    assert not (tmp_path / "pwned").exists()


class Touch:
    """What a pickle would run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch '{self.path}'",))


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder in which one task was trained with wandb offline, and all that was said."""
    work = tmp_path_factory.mktemp("tracked")
    make_data(work)
    plan = plan_of(work)
    task = plan.task("cards", 0, 1)
    data, clip = task.payload["data"]["id"], task.payload["clip"]["id"]
    text = plan.texts[task.text]
    file, log = f"{task.folder}/task.json", f"{task.folder}/logs/train.log"
    calls = [
        ["prepare", "--spec", canonical(plan.data[data]), "--out", f"resources/data/{data}"],
        ["fetch-clip", "--clip", canonical(plan.clips[clip]), "--out", f"resources/clip/{clip}"],
        [
            *["embed-text", "--clip", f"resources/clip/{clip}", "--names"],
            *[canonical(text["names"]), "--out", f"resources/text/{task.text}.safetensors"],
        ],
        features_call(task.features, plan.features[task.features], "train"),
        ["resolve", "--json", task.json, "--out", file],
        ["split", "--task", file],
        ["train", "--task", file, "--log", log, "--debug"],
    ]
    code = "import json, sys; from clclip.cli.main import main\n"
    code += "for call in json.loads(sys.argv[1]):\n    assert main(call) == 0, call\n"
    (work / ".netrc").write_text(f"machine api.wandb.ai login user password {STORED_KEY}\n")
    (work / ".netrc").chmod(0o600)
    environment = {**os.environ, "WANDB_API_KEY": KEY, "CLCLIP_WANDB": "offline", "HOME": str(work)}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)],
        cwd=work,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return work, work / task.folder, done.stdout + done.stderr


def test_a_wandb_key_is_in_no_file_and_no_output(tracked):
    work, _, said = tracked
    assert KEY not in said and STORED_KEY not in said
    files = [path for path in work.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []
    holders = [path.name for path in files if STORED_KEY.encode() in path.read_bytes()]
    assert holders == [".netrc"]


def test_offline_run_holds_the_history(tracked):
    _, folder, _ = tracked
    rows = wandb_files.history(folder)
    header, *lines = (folder / "history.csv").read_text().splitlines()
    assert len(rows) == len(lines) >= 1
    logged = dict(zip(header.split(","), lines[-1].split(","), strict=True))
    assert rows[-1]["loss"] == pytest.approx(float(logged["loss"]), rel=1e-3)


def test_the_key_is_in_no_source(root):
    tracked_files = [*sources(root), *(root / "config").rglob("*.yaml"), root / "README.md"]
    pattern = re.compile(r"WANDB_API_KEY\s*=\s*\S")
    assert not any(pattern.search(Path(path).read_text("utf-8")) for path in tracked_files)
