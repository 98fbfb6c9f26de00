"""Fixtures that several files of tests share."""

from report_fixtures import copy, made, no_figures
from seca_streams import random_clip

__all__ = ["copy", "made", "no_figures", "random_clip"]
