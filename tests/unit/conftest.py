"""Fixtures that several files of tests share."""

from model_runs import boxes_run, cards_model, folders_run
from report_fixtures import copy, made, no_figures
from seca_streams import random_clip

__all__ = [
    "boxes_run",
    "cards_model",
    "copy",
    "folders_run",
    "made",
    "no_figures",
    "random_clip",
]
