"""Which function runs each sub-command; imported when one is run: ``--help`` stays quick."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from clclip.cli import features, probes, stages, tools

RUNNERS: dict[str, Callable[[argparse.Namespace], None]] = {
    "cache": tools.cache,
    "resolve": stages.resolve,
    "prepare": stages.prepare,
    "fetch-clip": stages.fetch_clip,
    "pretrain-clip": stages.pretrain_clip,
    "embed-text": stages.embed_text,
    "features": features.features,
    "split": stages.split,
    "train": stages.train,
    "predict": stages.predict,
    "score": stages.score,
    "aggregate": stages.aggregate,
    "report": stages.report,
    "compare": tools.compare,
    "watch": tools.watch,
    "detect": tools.detect,
    "classify": tools.classify,
    "export": tools.export,
    "list": tools.list_names,
    "describe": tools.describe,
    "schema": tools.schema,
    "advise": probes.advise,
    "probe-dense": probes.probe_dense,
    "feature-drift": probes.feature_drift,
    "zero-shot": probes.zero_shot,
    "open-vocabulary": probes.open_vocabulary,
    "completion": tools.completion,
}
