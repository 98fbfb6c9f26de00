"""The JSON schema of the config files, generated from the models so that editors complete keys."""

from __future__ import annotations

import json
from typing import Any

from pydantic.json_schema import models_json_schema

from clclip.config.experiment import Experiment, TrainingConfig
from clclip.config.run import RunConfig
from clclip.config.streams import StreamFile


def schema_text() -> str:
    """Return ``config/schema.json``."""
    from clclip.classification.closed_form.options import ClosedFormSwitches
    from clclip.classification.options import ClassificationSwitches
    from clclip.classification.rapf.options import RapfSwitches
    from clclip.detection.options import DetectionSwitches

    switched = (DetectionSwitches, ClassificationSwitches, ClosedFormSwitches, RapfSwitches)
    models = (Experiment, RunConfig, StreamFile, TrainingConfig, *switched)
    _, schema = models_json_schema([(model, "validation") for model in models])
    definitions = schema["$defs"]
    training = {"$ref": "#/$defs/TrainingConfig"}
    switches = {
        "anyOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in switched],
    }
    for section in ("Experiment", "TaskOverride"):
        _refer(definitions[section]["properties"], "training", training)
        _refer(definitions[section]["properties"], "switches", switches)
    # a file with `base` takes `kind` and `method` from there; the loader asks for them in the end
    definitions["Experiment"].pop("required", None)
    definitions["StreamFile"].pop("required", None)
    entry = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Experiment"}]}
    definitions["RunConfig"]["properties"]["experiments"]["items"] = entry
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "clclip: an experiment file, what to run, or a file of streams",
        "anyOf": [
            {"$ref": f"#/$defs/{model}"} for model in ("Experiment", "RunConfig", "StreamFile")
        ],
        "$defs": definitions,
    }
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def _refer(properties: dict[str, Any], key: str, target: dict[str, Any]) -> None:
    """Let a property that the models hold as a plain mapping point to its own model."""
    properties[key] = {"description": properties[key]["description"], **target}
