"""Fixtures that several files of tests share."""

from tests.helpers.report.fixtures import copy, made, no_figures
from tests.helpers.seca_streams import random_clip

__all__ = ["copy", "made", "no_figures", "random_clip"]
