# The plan of the run, and functions giving inputs and parameters. Read once for every job: no torch here.
from pathlib import Path
from types import SimpleNamespace

from snakemake.common import dict_to_key_value_args

from clclip.model.kinds import KINDS
from clclip.workflow import host, interrupt
from clclip.workflow.folder_lock import claim_folder, runs_nothing
from clclip.data.relocate import relocate
from clclip.core.errors import InputError
from clclip.workflow.fingerprint import fingerprint, stage_fingerprint
from clclip.core.digest import canonical
from clclip.workflow.data_spec import named_classes
from clclip.workflow.plan import plan_run
from clclip.workflow.start.changed_data import announced
from clclip.core.machine import announce as announce_speed
from clclip.training.online import check_online

CONDA = "CONDA" in {m.name for m in workflow.deployment_settings.deployment_method}
host.prepare_environment(CONDA)
shell.prefix(host.shell_prefix(CONDA))


def running_jobs():
    """Return the rules of the jobs that run now."""
    return [job.rule.name for job in tuple(workflow.scheduler.running)]


try:
    PLAN = plan_run(
        config,
        host.invoking_folders(),
        cache=Path("resources/data/.facts"),
        job=not workflow.is_main_process,
    )
    if workflow.is_main_process:
        jobs_config = dict(workflow.config_settings.config) | host.config_for_jobs(
            config, host.invoking_folders()
        )
        workflow.config_settings.config_args = dict_to_key_value_args(
            jobs_config, repr_obj=True
        )
    if workflow.is_main_process and not workflow.output_settings.dryrun:
        reading = runs_nothing(sys.argv[1:])
        claim_folder(Path.cwd(), reading)
        if not reading:
            if PLAN.wandb == "online":
                check_online()
            relocate(
                PLAN.data.values(), Path("resources"), Path("resources/data/.facts")
            )
            interrupt.handle_interrupts(running_jobs)
    if workflow.is_main_process and not runs_nothing(sys.argv[1:]):
        for line in announced(PLAN):
            print(line, file=sys.stderr, flush=True)
except InputError as error:
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(2)  # snakemake would turn any exception into a traceback and status 1

host.announce_logger(PLAN.wandb)
announce_speed(config.get("speed"))


def gpu(devices=1):
    """Return how many accelerators a job asks for: none on a host that has none."""
    return devices * int(host.has_accelerator() or workflow.non_local_exec)


def planned(wildcards):
    """Return the task that the wildcards name."""
    try:
        return PLAN.task(wildcards.experiment, wildcards.seed, wildcards.task)
    except KeyError:
        raise ValueError(f"no task {dict(wildcards)} in this run's config") from None


def classes_of_data(data):
    """Return the classes that the tasks of this run name of a data set."""
    tasks = [
        task.payload for e in PLAN.experiments.values() for task in e.tasks.values()
    ]
    return named_classes(tasks, data)


def task_json(wildcards):
    """Return the canonical JSON of a task: the one way by which config reaches a job."""
    return planned(wildcards).json


def previous_weights(wildcards):
    """Return the weights of all tasks before this one; for a stream that starts from a model, its start.json."""
    seed = f"results/{wildcards.experiment}/seed{wildcards.seed}"
    experiment = PLAN.experiments[wildcards.experiment]
    tasks = range(experiment.numbers.start, int(wildcards.task))
    started = [] if experiment.start is None else [f"{seed}/start.json"]
    return [*started, *(f"{seed}/task{task}/weights.safetensors" for task in tasks)]


def seen_weights(wildcards):
    """Return the weights of all tasks up to this one."""
    return [
        *previous_weights(wildcards),
        f"results/{wildcards.experiment}/seed{wildcards.seed}/task{wildcards.task}/weights.safetensors",
    ]


def frozen_inputs(split):
    """Return a function naming the stores that a task reads; they are named by their content, so their age does not matter."""

    def paths(wildcards):
        task = planned(wildcards)
        inputs = [f"resources/clip/{task.payload['clip']['id']}/clip.json"]
        if task.text is not None:
            inputs.append(f"resources/text/{task.text}.safetensors")
        if task.features is not None:
            inputs.append(f"resources/features/{task.store(split)}/done.json")
        else:
            inputs.append(f"resources/data/{task.payload['data']['id']}/index.json")
        return [ancient(path) for path in inputs]

    return paths


def data_index(wildcards):
    """Return the index of a task's data set."""
    return f"resources/data/{planned(wildcards).payload['data']['id']}/index.json"


def code(*stages):
    """Return a function giving the fingerprint of the modules that the stages use."""

    def value(wildcards):
        task = planned(wildcards).payload
        return "".join(
            stage_fingerprint(
                stage, task["kind"], task["method"], switches=task["switches"]
            )
            for stage in stages
        )

    return value


def seed_files(name):
    """Return a function naming the files ``name`` of all tasks of a seed."""

    def paths(wildcards):
        tasks = PLAN.experiments[wildcards.experiment].numbers
        return [
            f"results/{wildcards.experiment}/seed{wildcards.seed}/task{t}/{name}"
            for t in tasks
        ]

    return paths


def calibrations(wildcards):
    """Return the calibrations of a seed's tasks that hold images out."""
    experiment, seed = wildcards.experiment, wildcards.seed
    tasks = PLAN.experiments[experiment].tasks
    return [
        f"results/{experiment}/seed{seed}/task{number}/calibration.json"
        for (of, number), task in tasks.items()
        if str(of) == seed and task.payload["training"].get("holdout")
    ]


def unseen(wildcards):
    """Return the scores on classes that no task has trained yet: detectors of several tasks have them."""
    experiment = PLAN.experiments[wildcards.experiment]
    merged = experiment.start is not None and "origins" in experiment.start.plan
    if experiment.length < 2 or merged or not KINDS[experiment.config.kind].boxes:
        return []
    return [f"results/{wildcards.experiment}/seed{wildcards.seed}/unseen.json"]


def last_inputs(wildcards):
    """Return what predicting the test images of a seed's last task reads."""
    name, seed = wildcards.experiment, wildcards.seed
    task = PLAN.experiments[name].numbers[-1]
    last = SimpleNamespace(experiment=name, seed=seed, task=task)
    return [
        *frozen_inputs("test")(last),
        f"results/{name}/seed{seed}/task{task}/test.json",
    ]


def seed_summaries(wildcards):
    """Return the summaries of an experiment's seeds."""
    seeds = PLAN.experiments[wildcards.experiment].seeds
    return [f"results/{wildcards.experiment}/seed{seed}/summary.json" for seed in seeds]


def features_of(wildcards):
    """Return the canonical description of a feature store."""
    return PLAN.features[wildcards.features]


def sentence_of(wildcards):
    """Return the words that name the one sentence of texts; without them the ensemble is taken."""
    template = PLAN.texts[wildcards.text].get("template")
    return [] if template is None else ["--template", template]


def model_of(wildcards):
    """Return the words that name the model whose texts are taken over as they are."""
    start = PLAN.texts[wildcards.text].get("start")
    return [] if start is None else ["--model", start]


def names_of_methods():
    """Return how the report calls and draws the methods: a change reruns the report."""
    return {
        f"{kind}/{name}": [method.label, method.role, method.colour]
        for kind, one in KINDS.items()
        for name, method in one.methods.items()
    }
