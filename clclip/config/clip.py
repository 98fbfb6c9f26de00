"""The section ``clip`` of an experiment file, checked against what open_clip has."""

from __future__ import annotations

from pydantic import Field, model_validator

from clclip.clip.architecture import has_patch_tokens
from clclip.clip.catalogue import known_tags
from clclip.clip.ids import EMBEDDED
from clclip.core.errors import WrongValue, nearest
from clclip.core.models import Strict, open_clip_models


class ClipConfig(Strict):
    """The frozen CLIP; left out, the embedded one."""

    model: str = Field("embedded", description="embedded, or an open_clip architecture")
    tag: str | None = Field(
        None, description="open_clip's pretrained tag; decides activation and pixel statistics"
    )
    file: str | None = Field(None, description="weights file that replaces the tag's bytes")

    @model_validator(mode="after")
    def _known(self) -> ClipConfig:
        """Refuse what open_clip does not have, and towers without patch tokens."""
        if self.model in EMBEDDED:
            if self.tag is not None:
                what = f"clip.tag {self.tag!r} for {self.model!r}, which has none"
                raise WrongValue(what, "no tag, or an open_clip model such as ViT-B-16")
            return self
        known = open_clip_models()
        if known and self.model not in known:
            hint = nearest(self.model, [*known, *EMBEDDED])
            what = f"unknown CLIP model {self.model!r}{hint}"
            raise WrongValue(what, f"{', '.join(EMBEDDED)} or an architecture of open_clip")
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
        return self
