"""The kinds of experiment by name; torch-free."""

from __future__ import annotations

from clclip.classification.kind import CLASSIFICATION
from clclip.core.kind import Kind
from clclip.detection.kind import DETECTION

KINDS: dict[str, Kind] = {kind.name: kind for kind in (DETECTION, CLASSIFICATION)}
