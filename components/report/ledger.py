"""The ledger: every published figure beside what is known of it here.

A row of figures is in one of three states: measured here; not measured here, with the command that would do it;
not measurable in this project, with the reason. What this very run scored on its own data is a fourth thing and
is never put in the place of a published figure: it is shown as `orientation`.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from components.errors import UserError
from components.params import Params, validate_params
from components.report.figures import typeset
from components.report.results import OURS

PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
State = Literal["measured here", "not measured here", "not measurable in this project"]
Value = str | int | float | bool


class Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedRow(Entry):
    name: str
    settings: dict[str, Value]
    values: list[float | None]
    needs: dict[str, Value] | None = None  # in place of the table's
    command: str | None = None  # in place of the table's
    unmeasurable: str | None = None
    benchmark_key: str | None = None  # of the figures in benchmarks/results/adapters.json


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
class LedgerRow:
    name: str
    published: list[str]
    state: State
    detail: str  # command, reason, or where the measurement comes from
    measured: list[str] | None  # printed as the paper prints them
    orientation: list[str] | None
    source: str = ""  # where the orientation comes from

    @property
    def is_command(self) -> bool:
        return self.state == "not measured here"


@dataclass(frozen=True)
class LedgerTable:
    title: str
    headings: list[tuple[str, bool]]  # text, higher is better
    rows: list[LedgerRow]
    notes: list[str]

    @property
    def shared(self) -> LedgerRow | None:
        """A row that speaks for all, where all are in one state for one reason: it is said once."""
        first = self.rows[0]
        same = all((row.state, row.detail) == (first.state, first.detail) for row in self.rows)
        return first if same and len(self.rows) > 1 else None

    @property
    def summary(self) -> str:
        """How many printed figures are in which state."""
        figures = Counter[str]()
        for row in self.rows:
            figures[row.state] += sum(text != "–" for text in row.published)
        return ", ".join(f"{number} {state}" for state, number in figures.items())


@dataclass(frozen=True)
class Here:
    """What this project can do and what this run measured."""

    params: Params
    metrics: Mapping[str, Any]  # metrics.json
    profiles: Mapping[str, Mapping[str, Any]]  # overlays of params.yaml by name
    benchmarks: frozenset[str]
    times: Mapping[str, Any] = field(default_factory=dict)  # benchmarks/results/adapters.json
    run: str = ""
    params_digest: str = ""
    data_digest: str = ""


def read_published(path: Path = PUBLISHED_FILE) -> list[PublishedTable]:
    return [PublishedTable.model_validate(table) for table in yaml.safe_load(path.read_text(encoding="utf-8"))]


def ledger(tables: list[PublishedTable], here: Here) -> list[LedgerTable]:
    return [_table(table, here) for table in tables]


def _table(table: PublishedTable, here: Here) -> LedgerTable:
    notes = [*table.notes]
    names = {column[0]: column[1] for column in table.columns}
    notes += [
        f"{names[column]}: not measurable in this project ({why})."
        for column, why in table.unmeasurable_columns.items()
    ]
    return LedgerTable(
        title=f"{table.paper}, {table.place}: {table.title}",
        headings=[(heading, better == "high") for _, heading, _, _, better in table.columns],
        rows=[_row(table, row, here) for row in table.rows],
        notes=notes,
    )


def _row(table: PublishedTable, row: PublishedRow, here: Here) -> LedgerRow:
    tree = here.params.model_dump()
    needs = table.needs if row.needs is None else row.needs
    same_method = bool(row.settings) and all(setting(tree, key) == value for key, value in row.settings.items())
    found = _found(table, here.metrics) if same_method else None
    faithful = found is not None and all(setting(tree, key) == value for key, value in needs.items())
    state, detail = _state(table, row, here) if not faithful else ("measured here", _origin(here))
    source = f"this run, profile {here.params.profile}"
    if row.benchmark_key:
        found, source = _timed(row.benchmark_key, here.times)
    return LedgerRow(
        name=row.name,
        published=[_as_printed(value) for value in row.values],
        state=state,
        detail=detail,
        measured=found if faithful else None,
        orientation=None if faithful else found,
        source=source,
    )


def _timed(method: str, times: Mapping[str, Any]) -> tuple[list[str] | None, str]:
    """A method's time against LoRA's in the whole LLaVA, as benchmarks/adapters.py measured it, and where."""
    for setting_name, phases in times.get("ratios", {}).items():
        if setting_name.endswith(" llava") and method in phases["prefill"]:
            ratio = phases["prefill"][method]["ratio"]
            where = f"language model of width {setting_name.removesuffix(' llava')} on one core of {times['processor']}"
            return [f"{ratio:.2f}"], f"here, {where}, {times['date']}"
    return None, ""


def _found(table: PublishedTable, metrics: Mapping[str, Any]) -> list[str] | None:
    """This run's values under the table's columns, or None where it has none of them."""
    values = []
    for _, _, metric, factor, _ in table.columns:
        task, _, name = (metric or ".").partition(".")
        value = metrics.get(OURS, {}).get(task, {}).get(name)
        values.append("–" if value is None else typeset(f"{value * factor:.1f}"))
    return values if any(value != "–" for value in values) else None


def _state(table: PublishedTable, row: PublishedRow, here: Here) -> tuple[State, str]:
    lacking = row.unmeasurable or _lacking(table, row, here)
    if lacking:
        return "not measurable in this project", lacking
    options = " ".join(f"-S {key}={_yaml(value)}" for key, value in row.settings.items())
    return "not measured here", (row.command or table.command).replace("{settings}", options).strip()


def _lacking(table: PublishedTable, row: PublishedRow, here: Here) -> str | None:
    """What this version of the project would need first; None when the command can be typed."""
    wanted = [table.benchmark] if table.benchmark else table.benchmarks
    unknown = [name for name in wanted if name not in here.benchmarks]
    if unknown:
        return f"this version has no benchmark {', '.join(unknown)}"
    if table.profile and table.profile not in here.profiles:
        return f"this version has no profile {table.profile}"
    if table.requires and not module_exists(table.requires):
        return f"this version has no {table.requires}"
    overlay = here.profiles.get(table.profile or "", {})
    try:
        validate_params(changed(merged(here.params.model_dump(), overlay), row.settings))
    except UserError as error:
        return f"with this version {str(error).removeprefix('params.yaml: ').partition(' (and ')[0]}"
    return None


def module_exists(name: str, find: Callable[[str], Any] = importlib.util.find_spec) -> bool:
    try:
        return find(name) is not None
    except ModuleNotFoundError:  # its package is not there
        return False


def setting(tree: Mapping[str, Any], key: str) -> Any:
    """`adapter.kind` in a tree of settings; None where there is no such key."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def changed(tree: Mapping[str, Any], settings: Mapping[str, Value]) -> dict[str, Any]:
    """A copy of the tree with `settings` (dotted keys) put in."""
    copy = dict(tree)
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        inner = copy.get(head)
        copy[head] = changed(inner if isinstance(inner, Mapping) else {}, {rest: value}) if rest else value
    return copy


def merged(tree: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with the overlay's leaves in place of its own."""
    copy = dict(tree)
    for key, value in overlay.items():
        inner = copy.get(key)
        copy[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return copy


def _origin(here: Here) -> str:
    parts = {"run": here.run, "params": here.params_digest, "data": here.data_digest}
    return ", ".join(f"{name} {value[:12]}" for name, value in parts.items() if value)


def _as_printed(value: float | None) -> str:
    return "–" if value is None else typeset(f"{value:g}" if value != round(value, 1) else f"{value:.1f}")


def _yaml(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
