"""Where records come from and how they are checked and split: `data`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from components.params.section import Fraction, Name, Positive, Section


class Source(Section):
    """One source of data. `annotations` (glob) and `images` lie under `path`.

    `images`: a folder, zip or tar; several of them by the first part of the names; none for WebDataset.
    """

    kind: str
    path: str
    annotations: str
    images: str | dict[str, str] | None


class Splits(Section):
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Splits:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self


class Data(Section):
    max_rejected: Annotated[float, Field(ge=0, le=1)]  # share of a source's records
    max_pixels: Positive  # per image, checked before it is decoded
    shard_bytes: Annotated[int, Field(ge=1_000)]
    splits: Splits
    sources: Annotated[dict[Name, Source], Field(min_length=1)]
