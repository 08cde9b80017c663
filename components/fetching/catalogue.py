"""The table of names (catalogue.yaml), read and checked."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from components.errors import UserError
from components.paths import inside

CATALOGUE = Path(__file__).with_name("catalogue.yaml")


Inside = Annotated[str, AfterValidator(inside)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Part):
    path: Inside
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
    bytes: Annotated[int, Field(ge=1)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Hub(_Part):
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")]
    kind: Literal["model", "dataset"]
    files: tuple[Inside, ...] = ()  # empty: weights with all that belongs to them


class Unpack(_Part):
    file: Inside
    member: Inside


class Entry(_Part):
    about: str
    licence: str
    source: Annotated[str, Field(alias="from")]
    folder: Annotated[str, Field(pattern=r"^(data/raw|models)/[\w.-]+$")]
    files: tuple[File, ...] = ()
    hub: Hub | None = None
    unpack: Unpack | None = None
    by_hand: str | None = None

    @model_validator(mode="after")
    def _has_something(self) -> Entry:
        if not (self.files or self.hub or self.by_hand):
            raise ValueError("needs files, hub or by_hand")
        return self


def load(path: Path = CATALOGUE) -> dict[str, Entry]:
    return {name: Entry.model_validate(entry) for name, entry in yaml.safe_load(path.read_text("utf-8")).items()}


def find(name: str, catalogue: dict[str, Entry]) -> Entry:
    if name not in catalogue:
        near = difflib.get_close_matches(name, catalogue, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"no data or weights are called {name!r}{hint} (there are: {', '.join(catalogue)})")
    return catalogue[name]
