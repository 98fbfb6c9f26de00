"""Fixtures that several files of tests share."""

from tests.helpers.model_runs import boxes_run, cards_model, folders_run
from tests.helpers.report.fixtures import copy, made, no_figures
from tests.helpers.seca_streams import random_clip

__all__ = [
    "boxes_run",
    "cards_model",
    "copy",
    "folders_run",
    "made",
    "no_figures",
    "random_clip",
]
