"""The parser: every sub-command with its help, its example and its options."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from clclip.cli import options as known

Command = tuple[str, Callable[[argparse.ArgumentParser], None], str]
RUN = "results/shapes_10_10_clclip/seed0"
TASK = f"{RUN}/task1/task.json"
COMMANDS: dict[str, Command] = {
    "resolve": (
        "write a task's resolved plan",
        known.add_resolve,
        "--json '{...}' --out task.json",
    ),
    "prepare": (
        "generate or verify and index a data set",
        known.add_prepare,
        """--spec '{"format":"shapes","id":"shapes20-v1","world":"shapes20"}' --out DIR""",
    ),
    "fetch-clip": (
        "put a CLIP in place: shipped, from a file or downloaded",
        known.add_fetch_clip,
        """--clip '{"model":"ViT-B-16","tag":"openai"}' --out resources/clip/mine""",
    ),
    "pretrain-clip": (
        "make the embedded CLIP again from captions",
        known.add_pretrain_clip,
        "--seed 1 --out resources/pretrained/seed1",
    ),
    "embed-text": (
        "embed class names by the prompt ensemble",
        known.add_embed_text,
        """--clip resources/clip/ID --names '["red circle"]' --out text.safetensors""",
    ),
    "features": (
        "compute a tower's frozen features once",
        known.add_features,
        "--data resources/data/ID --clip resources/clip/ID --split train --size 128 "
        "--dense tokens --taps 1,2,3 --flip --out DIR",
    ),
    "split": ("write the images and labels of a task", known.add_task, f"--task {TASK}"),
    "train": ("train a task", known.add_train, f"--task {TASK} --log train.log"),
    "predict": ("predict the test images with a task's model", known.add_task, f"--task {TASK}"),
    "score": ("score a task's predictions", known.add_task, f"--task {TASK}"),
    "aggregate": (
        "summarise the tasks of a seed, or the seeds of an experiment",
        known.add_aggregate,
        f"--tasks {RUN}/task1 {RUN}/task2 --experiment shapes_10_10_clclip --out summary.json",
    ),
    "report": (
        "write the HTML page, the table and the figures",
        known.add_report,
        "--summaries results/*/summary.json --out results/report.html",
    ),
    "compare": (
        "is A better than B? a paired comparison with confidence intervals",
        known.add_compare,
        "results/shapes_10_10_clclip results/shapes_10_10_fvit",
    ),
    "watch": (
        "show a running workflow on the terminal: tasks, progress, losses, time left",
        known.add_watch,
        "results --once",
    ),
    "detect": ("detect objects in images", known.add_detect, f"--run {RUN} photo.jpg --out boxes"),
    "classify": (
        "classify images",
        known.add_classify,
        f"--run {RUN} photo.jpg --out classes.json",
    ),
    "export": ("one weights file and a card", known.add_export, f"--run {RUN} --out model"),
    "list": (
        "list the streams, methods and variants that names of experiments are made of",
        known.add_list,
        "voc_10_10",
    ),
    "describe": (
        "what an experiment would run and need",
        known.add_describe,
        "shapes_10_10_clclip",
    ),
    "cache": (
        "list or evict kept features and shared results; a run makes them again",
        known.add_cache,
        "evict --older-than 30",
    ),
    "schema": (
        "print the JSON schema of the config files",
        known.add_schema,
        "--out config/schema.json",
    ),
    "advise": (
        "which classifier suits a folder of images: frozen features, nothing trained, a minute",
        known.add_advise,
        "photos --clip resources/clip/vit-b-16-openai",
    ),
    "probe-dense": (
        "measure the dense modes of a CLIP on labelled images and recommend one",
        known.add_probe_dense,
        "--data resources/data/ID --clip resources/clip/ID",
    ),
    "open-vocabulary": (
        "AP of the classes of later tasks by the cost volume alone, after each task",
        known.add_finished_run,
        RUN,
    ),
    "feature-drift": (
        "how far later tasks have moved the features of earlier classes' test images",
        known.add_finished_run,
        "results/shapes_cil_seca/seed0",
    ),
    "zero-shot": (
        "zero-shot class of the ground-truth boxes by dense tokens",
        known.add_zero_shot,
        "--data resources/data/shapes20-v1",
    ),
    "completion": (
        "print the script that completes words of clclip in a shell",
        known.add_completion,
        'bash > clclip.bash && source clclip.bash   (for good: eval "$(clclip completion bash)")',
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = known.Parser(
        "clclip",
        description="CLIP-based continual learning",
        epilog="example: clclip describe shapes_10_10_clclip; `clclip COMMAND --help` has one more",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (text, add, example) in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example: clclip {name} {example}".replace("%", "%%"),
        )
        add(sub)
        sub.add_argument("--log", type=Path, default=None, metavar="FILE", help="log file")
        sub.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser
