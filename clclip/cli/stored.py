"""``train`` and ``predict`` share this: work that was done before is taken from the task store."""

from __future__ import annotations

import argparse
from importlib import import_module

from clclip.core.errors import InputError


def stored_stage(options: argparse.Namespace, stage: str, names: list[str]) -> None:
    """Run ``train`` or ``predict`` unless the same work was done before."""
    from clclip.config.resolve import check_settings
    from clclip.core.machine import import_quickly
    from clclip.core.task import read_task
    from clclip.model.kinds import KINDS
    from clclip.workflow.fingerprint import stage_fingerprint
    from clclip.workflow.gpu_slots import devices
    from clclip.workflow.task_store import stored, training_slice

    given = read_task(options.task)
    check_settings(given, options.task)
    task = training_slice(given)  # with the method that the first task counts as
    kind = KINDS[task["kind"]]
    if options.attempt < 1:
        raise InputError(f"got {options.attempt}", "--attempt", "a number from 1")
    code = stage_fingerprint(stage, kind.name, task["method"], switches=task["switches"])

    def work() -> None:
        # only who really works takes a device, and before torch looks at them
        with devices(getattr(options, "devices", 1)):
            module = kind.module(stage, task["method"])
            alone = kind.methods[task["method"]].closed_form
            # a tower is run by what neither reads stored features of it nor dense ones
            import_quickly(module, *(() if alone or kind.dense else ("clclip.clip.load",)))
            stages = import_module(module)
            if "start" in given:
                from clclip.model.change import start

                start.check_taken_over(options.task)
            if stage == "predict" and "origins" in given:
                start.predict_merged(options.task, options.resources)
            elif stage == "predict":
                stages.predict(options.task, options.resources)
            elif options.devices * options.nodes == 1 or alone:
                stages.train(options.task, options.resources, attempt=options.attempt)
            else:
                from clclip.training.launch import launch

                spread = (options.attempt, options.devices, options.nodes, options.log)
                launch(stages.__name__, options.task, options.resources, *spread)
            if "start" in given:
                finish = start.silence if stage == "predict" else start.settle
                finish(options.task)

    stored(options.task, options.resources, stage, code, names, work)
