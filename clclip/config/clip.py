"""The section ``clip`` of an experiment file, checked against what open_clip has."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, model_validator

from clclip.clip.architecture import has_patch_tokens
from clclip.clip.catalogue import known_tags
from clclip.clip.ids import EMBEDDED
from clclip.clip.own.hub import PREFIX
from clclip.clip.own.sources import LOCAL
from clclip.core.errors import WrongValue, nearest
from clclip.core.models import Strict, open_clip_models

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")


class ClipConfig(Strict):
    """The frozen CLIP; left out, the embedded one."""

    model: str = Field(
        "embedded",
        description="embedded, an open_clip architecture, hf-hub:ORG/NAME or local-dir:PATH",
    )
    tag: str | None = Field(
        None, description="open_clip's pretrained tag; decides activation and pixel statistics"
    )
    file: str | None = Field(
        None, description="weights file that replaces the tag's bytes, or that of config"
    )
    config: str | None = Field(
        None,
        description="open_clip model config (JSON) of an architecture that open_clip does not "
        "list; with file, without model and tag",
    )

    def given(self) -> dict[str, Any]:
        """Return what the file gives of the CLIP, as ``resolve_clip`` takes it."""
        given = {key: value for key, value in self.model_dump().items() if value is not None}
        if self.config is not None:
            del given["model"]
        return given

    @model_validator(mode="after")
    def _known(self) -> ClipConfig:
        """Refuse what open_clip does not have, and towers without patch tokens."""
        if self.config is not None:
            self._check_own()
        elif self.model.startswith((PREFIX, LOCAL)):
            self._check_place()
        elif self.model in EMBEDDED:
            if self.tag is not None:
                what = f"clip.tag {self.tag!r} for {self.model!r}, which has none"
                raise WrongValue(what, "no tag, or an open_clip model such as ViT-B-16")
        else:
            self._check_listed()
        return self

    def _check_own(self) -> None:
        """Refuse what has no meaning beside a model config of one's own."""
        for key in ("model", "tag"):
            if key in self.model_fields_set and getattr(self, key) is not None:
                what = f"clip.{key} beside clip.config"
                raise WrongValue(what, "config and file alone: the config is the model")
        if self.file is None:
            raise WrongValue("clip.config without clip.file", "the weights, e.g. own.safetensors")

    def _check_place(self) -> None:
        """Refuse what has no meaning beside a folder or a hub's model."""
        for key in ("tag", "file"):
            if getattr(self, key) is not None:
                what = f"clip.{key} beside {self.model!r}"
                raise WrongValue(what, "the model alone, which brings its weights")
        if self.model.startswith(PREFIX):
            if not _REPOSITORY.fullmatch(self.model.removeprefix(PREFIX)):
                raise WrongValue(f"clip.model {self.model!r}", f"{PREFIX}ORG/NAME")
        elif not self.model.removeprefix(LOCAL):
            raise WrongValue(f"clip.model {self.model!r}", f"{LOCAL}PATH")

    def _check_listed(self) -> None:
        """Refuse names that open_clip does not have."""
        known = open_clip_models()
        if known and self.model not in known:
            hint = nearest(self.model, [*known, *EMBEDDED])
            what = f"unknown CLIP model {self.model!r}{hint}"
            expected = f"{', '.join(EMBEDDED)}, an architecture of open_clip, or clip.config"
            raise WrongValue(what, expected)
        if not has_patch_tokens(self.model):
            what = f"CLIP model {self.model!r} has no patch tokens"
            raise WrongValue(what, "a vision transformer, such as ViT-B-16")
        tags = known_tags(self.model)
        some = ", ".join(tags or ["open_clip's name of the weights"])
        if self.tag is None:
            what = f"clip.tag is missing for {self.model!r}"
            raise WrongValue(what, f"one of {some}" if tags else some)
        if self.file is None and tags is not None and self.tag not in tags:
            what = f"unknown tag {self.tag!r} of {self.model}{nearest(self.tag, tags)}"
            raise WrongValue(
                what, f"one of {some}" if tags else "clip.file: open_clip has no weights"
            )
