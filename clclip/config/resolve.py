"""A task's training section and switches, complete: defaults below what an experiment file says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from clclip.classification.options import METHODS as CLASSIFICATION
from clclip.classification.options import from_features
from clclip.classification.options import switch_model as classification_model
from clclip.config.experiment import KIND_TRAINING, TrainingConfig
from clclip.config.load import merged
from clclip.core.digest import canonical
from clclip.core.errors import InputError
from clclip.core.models import input_error, parse
from clclip.core.task import BESIDE_TASK
from clclip.detection.registry import METHODS as DETECTION


def resolve_training(kind: str, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return all training settings: the kind's defaults, the file's above them, as plain values.

    Raises:
        InputError: if a key is unknown or a value is wrong.
    """
    return _dump(TrainingConfig, {**KIND_TRAINING[kind], **given}, f"{where}: training")


def switch_model(kind: str, method: str) -> type[BaseModel]:
    """Return the model of ``switches:`` for a method of a kind."""
    if kind == "detection":
        from clclip.detection.options import DetectionSwitches

        return DetectionSwitches
    return classification_model(method)


def resolve_switches(
    kind: str, method: str, given: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return all switches: the model's defaults, the method's above them, the file's above those.

    Raises:
        InputError: if a switch is unknown or a value is wrong.
    """
    own = DETECTION[method].switches if kind == "detection" else CLASSIFICATION[method]
    values = merged(dict(own), dict(given))
    return _dump(switch_model(kind, method), values, f"{where}: switches")


def _dump(model: type[BaseModel], values: dict[str, Any], where: str) -> dict[str, Any]:
    """Validate ``values`` and return them all as plain JSON values."""
    try:
        checked = model.model_validate(values)
        return json.loads(canonical(checked.model_dump(mode="json")))
    except ValidationError as error:
        raise input_error(model, error, where) from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(str(error), where, "finite numbers") from None


def check_settings(task: Mapping[str, Any], where: object) -> None:
    """Raise InputError unless a task's settings are whole and valid: of this version's making.

    Args:
        task: as ``check_task`` passes it.
        where: its file.
    """
    expected = "a file made by `clclip resolve`"
    switches = switch_model(task["kind"], task["method"])
    for key, model in (("training", TrainingConfig), ("switches", switches)):
        for name in model.model_fields:
            if name not in task[key] and not (key == "training" and name in BESIDE_TASK):
                raise InputError(f"no key {name!r}", f"{where}: {key}", expected)
        parse(model, task[key], f"{where}: {key}")
    if task["kind"] == "detection" or from_features(task["kind"], task["method"]):
        features = task.get("features")
        wanted = {"id": str, "cache": bool, "size": int, "dense": str, "taps": list, "flip": bool}
        if not isinstance(features, dict):
            raise InputError(f"got {features!r:.60}", f"{where}: features", expected)
        for name, kind in wanted.items():
            if not isinstance(features.get(name), kind):
                found = f"got {features.get(name)!r:.60}"
                raise InputError(found, f"{where}: features.{name}", expected)
