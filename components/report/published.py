"""The papers' figures (published.yaml), and what is known of the run that stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from components.params import Params
from components.params.trees import Value

PUBLISHED_FILE = Path(__file__).with_name("published.yaml")


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedRow(Entry):
    name: str
    settings: dict[str, Value]
    values: list[float | None]
    needs: dict[str, Value] | None = None  # in place of the table's
    command: str | None = None  # in place of the table's
    unmeasurable: str | None = None
    counted: str | None = None  # `dual_lora 64` or `vce`: a size that needs no run
    benchmark_key: str | None = None  # of the figures in benchmarks/results/adapters.json
    released: str | None = None  # what the authors' code has in this row's place, where `forms` does not say it


class PublishedTable(Entry):
    id: str
    paper: str
    place: str
    title: str
    columns: list[tuple[str, str, str | None, float, Literal["high", "low"]]]
    needs: dict[str, Value]
    command: str
    rows: list[PublishedRow]
    notes: list[str]
    benchmark: str | None = None
    benchmarks: list[str] = Field(default_factory=list)
    profile: str | None = None
    requires: str | None = None  # a module that the command runs
    unmeasurable_columns: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class ThisRun:
    """What this project can do and what this run measured."""

    params: Params
    metrics: Mapping[str, Any]  # metrics.json
    profiles: Mapping[str, Mapping[str, Any]]  # overlays of params.yaml by name
    benchmarks: frozenset[str]
    times: Mapping[str, Any] = field(default_factory=dict)  # benchmarks/results/adapters.json
    tables: Mapping[str, Any] = field(default_factory=dict)  # tables/*.json by name
    commit: str = ""  # of the code that wrote the report
    machine: str = ""  # that wrote it
    run: str = ""
    params_digest: str = ""
    data_digest: str = ""


def read_published(path: Path = PUBLISHED_FILE) -> list[PublishedTable]:
    return [PublishedTable.model_validate(table) for table in yaml.safe_load(path.read_text(encoding="utf-8"))]
