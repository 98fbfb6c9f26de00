"""``clclip.load_model``: a trained model from its folder or from a run's."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from clclip.core.errors import InputError
from clclip.core.task import has_boxes
from clclip.model.place import check_kind, open_place

if TYPE_CHECKING:  # torch is imported when a model is
    import torch

    from clclip.model.use.classification import ClassificationModel
    from clclip.model.use.detection import DetectionModel


def load_model(
    place: str | PathLike[str],
    *,
    task: int | None = None,
    resources: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    kind: str | None = None,
) -> DetectionModel | ClassificationModel:
    """Return a trained model, ready for images.

    Args:
        place: a model folder (``clclip export``), or a run's ``results/EXPERIMENT/seedN``.
        task: the model after this task (of a run); None: after the last trained one.
        resources: folder that holds the frozen tower as ``clip/ID``; None: the model's own or the
            run's, else ``resources`` of the working directory, else what ships with clclip or what
            its tag downloads.
        device: "cpu", "cuda", ...; None: an accelerator if there is one.
        kind: "detection" or "classification", if it must be that.

    Raises:
        InputError: if there is no model, its files are damaged, the tower is another one, or the
            machine has no such device.
    """
    chosen = None if device is None else usable_device(device)
    opened = open_place(Path(place), task, None if resources is None else Path(resources))
    check_kind(opened.plan, opened.place, kind)
    if has_boxes(opened.plan):
        from clclip.model.use.detection import DetectionModel

        return DetectionModel(opened, chosen)
    from clclip.model.use.classification import ClassificationModel

    return ClassificationModel(opened, chosen)


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device that this machine has.

    Raises:
        InputError: if it is none, or nothing can be computed there.
    """
    import torch

    try:
        chosen = torch.device(device)
        torch.zeros(1, device=chosen).item()
    except Exception:  # backends that are not there raise anything
        usable = ["cpu", *(f"cuda:{n}" for n in range(torch.cuda.device_count()))]
        if torch.backends.mps.is_available():
            usable.append("mps")
        expected = f"a device of this machine: {', '.join(usable)}"
        raise InputError(f"device {str(device)!r}", "device", expected) from None
    return chosen
