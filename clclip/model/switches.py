"""Which options the tasks of one model must share; torch-free.

Tasks of a stream, models that are merged and a model that a stream goes on from all meet in one
network, which is built from the options of the last task. Nobody need agree on an option that only
training reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from clclip.classification.closed_form.options import ClosedFormOptions
from clclip.classification.options import ClassificationOptions
from clclip.classification.rapf.options import RapfOptions
from clclip.classification.vis.options import VisOptions
from clclip.core.artifacts import Task
from clclip.core.options import Options
from clclip.detection.options.clclip import ClClipOptions
from clclip.detection.options.detector import GUARD, DetectorOptions
from clclip.detection.options.fvit import (
    DistilledOptions,
    FViTOptions,
    IorOptions,
    MmaOptions,
    ProtoOptions,
    PseudoOptions,
    ReplayOptions,
)
from clclip.model.kinds import KINDS

Named = Mapping[type[Options], frozenset[str]]
"""The class that has some options -> their names."""


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


UNREAD: Named = {
    DetectorOptions: GUARD
    # dense: a task file holds the tokens of its features besides, where auto is resolved
    | _words("dense rpn_batch roi_batch roi_positive proposals_train temperature"),
    FViTOptions: _words("columns"),
    PseudoOptions: _words("pseudo_threshold"),
    DistilledOptions: _words("distil_weight"),
    MmaOptions: _words("distil_rpn_weight"),
    ProtoOptions: _words("distil_rpn_weight proto_weight align_weight"),
    ReplayOptions: _words("attentive_weight attentive_gamma memory memory_min_side old_label"),
    IorOptions: _words("invert_objects invert_steps invert_accept"),
    # text_weight: a trained path holds its own
    ClClipOptions: _words(
        "negatives score_loss orthogonality orthogonality_weight route_recall text_weight "
        "detach_experts path_start drift drift_weight"
    ),
    ClassificationOptions: _words(
        "adapter_dropout prompt_lr evict relevance beta_scale distillation_scale consistency "
        "compare training_scale replay_samples"
    ),
    RapfOptions: _words(
        "lr epochs batch_size milestones replay_classes old_samples threshold pair_samples "
        "margin fusion"
    ),
    VisOptions: _words("anchor mixer_lr mixer_epochs mixer_batch"),
}
"""Options that a finished part does not read: models and tasks may differ in them."""

SHAPING: Named = {
    DetectorOptions: _words("scales channels roi_convs fc_width"),
    ProtoOptions: _words("proto_fine"),
    ClClipOptions: _words(
        "refiner experts expert_width expert_depth expert_box text_score shared adapter rest"
    ),
    ClassificationOptions: _words("visual adapter_width prompt prompt_length random_features"),
    ClosedFormOptions: _words("hidden spread"),
    VisOptions: _words("blocks mixer_width random_features"),
}
"""Options that decide which tensors a part has: with another value it cannot be loaded."""

ONE_PATH = ("drift", "free", "frozen")  # of ``shared``: how one path is trained, not what it is


class Difference(NamedTuple):
    """An option in which two tasks differ.

    Attributes:
        key: its name.
        one: its value of the one task.
        other: of the other.
    """

    key: str
    one: Any
    other: Any


def difference(one: Task, other: Task, follows: bool = False) -> Difference | None:
    """Return the first option that finished parts read and two tasks differ in; None: none.

    Args:
        one: a task file.
        other: another of the same method.
        follows: the other comes after the one in its stream, so that options which decide nothing
            of a first task may differ from it.
    """
    options = KINDS[one["kind"]].methods[one["method"]].options
    skipped = named(UNREAD, options)
    if follows and one["task"] == 1:
        skipped |= options.later
    keys = frozenset(one["switches"]) | frozenset(other["switches"])
    return _first(one, other["switches"], keys - skipped)


def misfit(before: Task, now: Task) -> tuple[str, Difference] | None:
    """Return by which setting a task does not go with the one before it, and its section.

    A network of other methods is trained on as a whole, so it need only be loaded; what CL-CLIP has
    learned stays as it is, and detects with the settings of the last task.

    Args:
        before: a task file.
        now: that of the next task in its stream.
    """
    options = KINDS[before["kind"]].methods[before["method"]].options
    if not issubclass(options, ClClipOptions):
        keys = named(SHAPING, options) - (options.later if before["task"] == 1 else frozenset())
        shaping = _first(before, now["switches"], keys)
        return None if shaping is None else ("switches", shaping)
    if (read := difference(before, now, follows=True)) is not None:
        return "switches", read
    for section, key, one, other in (
        ("switches", "dense", before["features"]["dense"], now["features"]["dense"]),
        ("training", "image_size", before["features"]["size"], now["features"]["size"]),
        ("training", "precision", before["training"]["precision"], now["training"]["precision"]),
    ):
        if one != other:
            return section, Difference(key, one, other)
    return None


def named(table: Named, options: type[Options]) -> frozenset[str]:
    """Return the options of a table that a class has, its bases' among them."""
    return frozenset().union(*(names for cls, names in table.items() if issubclass(options, cls)))


def _first(one: Task, switches: Mapping[str, Any], keys: frozenset[str]) -> Difference | None:
    """Return the first of some options in which a task and other switches differ.

    What one of them does not name has its default, as where its network is built.
    """
    ours = one["switches"]
    # those that both name come first: an option may lack where another makes it meaningless
    for key in sorted(keys, key=lambda key: (key not in ours or key not in switches, key)):
        default = _default(one, key)
        pair = ours.get(key, default), switches.get(key, default)
        if pair[0] != pair[1] and not (key == "shared" and set(pair) <= set(ONE_PATH)):
            return Difference(key, *pair)
    return None


def _default(one: Task, key: str) -> Any:
    """Return the default of an option as task.json writes it; None of an unknown one."""
    method = KINDS[one["kind"]].methods[one["method"]]
    field = method.options.model_fields.get(key)
    default = method.defining.get(key, field.default if field else None)
    return json.loads(json.dumps(default))
