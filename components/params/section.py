"""What every section of params.yaml is, and the kinds of numbers in it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(ge=0, le=1)]
Template = Literal["plain", "v1", "chat"]


class Section(BaseModel):
    """A section of params.yaml: read once, never changed; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
