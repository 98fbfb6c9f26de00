"""The JSON schema of the config files, generated from the models so that editors complete keys."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from clclip.config.experiment import Experiment, TrainingConfig
from clclip.config.run import RunConfig
from clclip.config.streams import StreamFile
from clclip.core.options import Options
from clclip.model.kinds import KINDS


def schema_text() -> str:
    """Return ``config/schema.json``."""
    methods = methods_by_options()
    models: list[type[BaseModel]] = [Experiment, RunConfig, StreamFile, TrainingConfig]
    _, schema = models_json_schema([(model, "validation") for model in [*models, *methods]])
    definitions = schema["$defs"]
    training = {"$ref": "#/$defs/TrainingConfig"}
    switches = {"anyOf": [{"$ref": f"#/$defs/{cls.__name__}"} for cls in methods]}
    for section in ("Experiment", "TaskOverride"):
        _refer(definitions[section]["properties"], "training", training)
        _refer(definitions[section]["properties"], "switches", switches)
    # a file with `base` takes `kind` and `method` from there; the loader asks for them in the end
    definitions["Experiment"].pop("required", None)
    definitions["StreamFile"].pop("required", None)
    entry = {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/Experiment"}]}
    definitions["RunConfig"]["properties"]["experiments"]["items"] = entry
    definitions["Experiment"]["allOf"] = [
        _own_options(cls, kind, names) for cls, (kind, names) in methods.items()
    ]
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "clclip: an experiment file, what to run, or a file of streams",
        "anyOf": [
            {"$ref": f"#/$defs/{model}"} for model in ("Experiment", "RunConfig", "StreamFile")
        ],
        "$defs": definitions,
    }
    return json.dumps(whole, indent=1, sort_keys=True) + "\n"


def methods_by_options() -> dict[type[Options], tuple[str, list[str]]]:
    """Return the classes of options, each with the kind and the names of its methods."""
    result: dict[type[Options], tuple[str, list[str]]] = {}
    for kind in KINDS.values():
        for name, method in kind.methods.items():
            result.setdefault(method.options, (kind.name, []))[1].append(name)
    return result


def _own_options(cls: type[Options], kind: str, names: list[str]) -> dict[str, Any]:
    """Return the rule that a file of these methods has their switches and no others.

    A name that methods of two kinds share counts where the file gives the kind too.
    """
    others = {name for k in KINDS.values() if k.name != kind for name in k.methods}
    alone = {"properties": {"method": {"enum": [n for n in names if n not in others]}}}
    both = {"properties": {"method": {"enum": names}, "kind": {"const": kind}}}
    switches = {"switches": {"$ref": f"#/$defs/{cls.__name__}"}}
    tasks = {"per_task": {"additionalProperties": {"properties": switches}}}
    return {
        "if": {
            "anyOf": [
                alone | {"required": ["method"]},
                both | {"required": ["method", "kind"]},
            ]
        },
        "then": {"properties": switches | tasks},
    }


def _refer(properties: dict[str, Any], key: str, target: dict[str, Any]) -> None:
    """Let a property that the models hold as a plain mapping point to its own model."""
    properties[key] = {"description": properties[key]["description"], **target}
