"""The difficulty of a cluttered world: one knob for each thing that makes real pictures hard."""

from __future__ import annotations

from pydantic import Field, field_validator

from clclip.core.models import Strict, WrongValue

MAX_PLACES = 4


class Difficulty(Strict):
    """The knobs of a cluttered world; 0 takes a difficulty away."""

    size: tuple[int, int] = Field(
        (12, 44), description="least and greatest longer side of an object in px"
    )
    objects: tuple[int, int] = Field(
        (2, 7), description="least and greatest number of objects in a scene"
    )
    occlusion: int = Field(
        45,
        ge=0,
        le=100,
        description="per cent of the smaller of two boxes that they may share, and of an object's "
        "pixels that others may hide",
    )
    renditions: int = Field(
        45, ge=0, le=100, description="per cent of objects drawn as an outline, hatched or faint"
    )
    blurred: int = Field(25, ge=0, le=100, description="per cent of scenes out of focus")
    look_alikes: int = Field(
        4,
        ge=0,
        le=20,
        description="most objects in a scene that are of no class: a shape of no class in a "
        "class's colour, or a shape of a class in a colour of none",
    )
    strokes: int = Field(14, ge=0, le=50, description="most lines across the background")
    theme: int = Field(
        70,
        ge=0,
        le=100,
        description="per cent of objects that are of the scene's theme, a quarter of the classes; "
        "the others are of any class",
    )
    places: int = Field(
        0,
        ge=0,
        le=MAX_PLACES,
        description="how many places (background, light, texture) the images come from in turn; "
        "0: a neutral one without a number",
    )

    @field_validator("size", "objects")
    @classmethod
    def _range(cls, value: tuple[int, int]) -> tuple[int, int]:
        """Refuse ranges that cannot be drawn."""
        least, greatest = value
        if not 1 <= least <= greatest or greatest > 100:
            raise WrongValue(f"the range {list(value)}", "least and greatest, of 1 to 100")
        return value
