"""What every section of params.yaml is, and the kinds of numbers in it."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(ge=0, le=1)]
Template = Literal["plain", "v1", "chat"]


def _a_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}", name):
        raise ValueError(f"a name is 1 to 64 letters, digits, _ and -, without - in front; got {name[:80]!a}")
    return name


def _a_profile_name(name: str) -> str:
    _a_name(name.replace(".", "_") if not name.startswith(".") else name)
    return name


Name = Annotated[str, AfterValidator(_a_name)]  # becomes a folder, a stage or a registered model
ProfileName = Annotated[str, AfterValidator(_a_profile_name)]  # may hold dots: llava-1.5-7b


class Section(BaseModel):
    """A section of params.yaml: read once, never changed; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
