# CLIP-based continual learning as a DAG of tasks; see README.md. Start: uv run snakemake --cores all
import os
import sys

from snakemake.utils import min_version

min_version("9.20")

sys.path.insert(0, workflow.basedir)

from clclip.core.terminal import ensure_utf8_mode, tolerate_characters

ensure_utf8_mode()
tolerate_characters()


configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    experiment=r"[^/]+",
    seed=r"\d+",
    task=r"\d+",
    split="train|test",


include: "workflow/rules/common.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/tasks.smk"
include: "workflow/rules/summary.smk"


localrules:
    all,
    resolve_task,


rule all:
    default_target: True
    input:
        "results/report.html",
        "results/summary.csv",


onsuccess:
    print(host.ending(Path("results")), flush=True)
