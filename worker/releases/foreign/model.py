"""The base of the models of result files: types are strict, and fields that Facet has no use for are passed over."""

from __future__ import annotations

from typing import Annotated

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel, to_pascal

Share = Annotated[float, Field(ge=0, le=1)]
Percent = Annotated[float, Field(ge=0, le=100.001)]  # 100 may come with an error of rounding
Length = Annotated[float, Field(ge=0, le=10)]
"""A part of the frame; a box that is cut off may be larger than the frame."""
Place = Annotated[float, Field(ge=-10, le=10)]
"""A place as a part of the frame, which may lie beside it."""


class PascalModel(BaseModel):
    """Fields are written ``LikeThis``."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, alias_generator=to_pascal)


class CamelModel(BaseModel):
    """Fields are written ``likeThis``, or ``like_this`` in files that the service writes to its storage."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(to_camel(name), name)),
    )


def share(percent: float) -> float:
    """Return a percentage as a number from 0 to 1."""
    return min(percent / 100, 1.0)
