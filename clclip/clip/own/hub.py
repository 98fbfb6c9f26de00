"""A model of the Hugging Face hub: which revision, its config, its weights.

The revision is part of the CLIP's id, so it is settled when a run is planned: what the hub's cache
calls ``main``, or, if the cache lacks the model, what the hub calls so. What the cache holds is
used without asking the network.
"""

from __future__ import annotations

import logging
from pathlib import Path

from clclip.clip.own.model_config import NAME, Missing
from clclip.core import homes

PREFIX = "hf-hub:"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip's own order
_SECONDS = 10.0
_EXPECTED = "a model of the hub with {file}, in its cache or within reach of the network"


def config_file(repository: str) -> tuple[str, Path]:
    """Return the revision of a model and its config file in the hub's cache.

    Args:
        repository: ``org/name``.

    Raises:
        InputError: if neither the cache nor the network has it.
    """
    path = _cached(repository, NAME, None) or _download(repository, (NAME,), None)
    return path.parent.name, path  # the cache keeps files under snapshots/REVISION


def weights_file(repository: str, revision: str) -> Path:
    """Return the weights of a model's revision in the hub's cache, downloaded if need be.

    Raises:
        InputError: if neither the cache nor the network has them.
    """
    for name in WEIGHTS:
        if path := _cached(repository, name, revision):
            return path
    return _download(repository, WEIGHTS, revision)


def _cached(repository: str, name: str, revision: str | None) -> Path | None:
    """Return a file of the hub's cache, None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def _download(repository: str, names: tuple[str, ...], revision: str | None) -> Path:
    """Download the first of ``names`` that a model's revision has."""
    from huggingface_hub import HfApi, hf_hub_download

    loud = logging.getLogger("huggingface_hub")
    level = loud.level
    home = homes.hub_home()
    if home is None:
        homes.writable(home, f"{PREFIX}{repository}")
    loud.setLevel(logging.ERROR)
    try:  # one question first: a download would try a dead network for half a minute
        info = HfApi().model_info(repository, revision=revision, timeout=_SECONDS)
        there = {sibling.rfilename for sibling in info.siblings or ()}
        name = next((name for name in names if name in there), names[0])
        return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # each library below raises its own
        homes.writable(home, f"{PREFIX}{repository}")
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        what = f"{PREFIX}{repository} cannot be had ({reason})"
        raise Missing(what, "clip.model", _EXPECTED.format(file=names[0])) from None
    finally:
        loud.setLevel(level)
