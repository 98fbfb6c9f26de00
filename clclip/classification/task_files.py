"""What all classification methods write of a task alike; torch-free."""

from __future__ import annotations

import json

from clclip.core.artifacts import Task
from clclip.core.digest import digest
from clclip.core.task import seen_classes

UNTRAINED_HISTORY = "step,loss,lr,images_per_s,peak_mib\n"


def record_metadata(task: Task) -> dict[str, str]:
    """Return what a record says about itself."""
    from clclip import __version__

    classes = json.dumps(seen_classes(task))
    return {"classes": classes, "digest": digest(task), "clclip": __version__}
