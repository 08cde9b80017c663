"""The ledger: every published figure beside what is known of it here.

A row of figures is in one of three states: measured here (with spread over seeds, runs, digests of params and data);
not measured here, with the command that would do it; not measurable in this project, with the reason. What the same
method scored on other data and another base (in a table of `make table1`, or in this very run) is a fourth thing and
never put in the place of a published figure: it is shown as `orientation`.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from components.errors import UserError
from components.params import Params, validate_params
from components.params.trees import Value, changed, merged, setting
from components.report.figures import typeset
from components.report.results import OURS

SHOWN = 12  # digits of a digest
PUBLISHED_FILE = Path(__file__).with_name("published.yaml")
State = Literal["measured here", "not measured here", "not measurable in this project"]


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
    states: list[State | None] = field(default_factory=list)  # of each figure; None where none is printed

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
            figures.update(state for state in row.states if state)
        return ", ".join(f"{number} {state}" for state, number in figures.items())


@dataclass(frozen=True)
class ThisRun:
    """What this project can do and what this run measured."""

    params: Params
    metrics: Mapping[str, Any]  # metrics.json
    profiles: Mapping[str, Mapping[str, Any]]  # overlays of params.yaml by name
    benchmarks: frozenset[str]
    times: Mapping[str, Any] = field(default_factory=dict)  # benchmarks/results/adapters.json
    tables: Mapping[str, Any] = field(default_factory=dict)  # tables/*.json by name
    run: str = ""
    params_digest: str = ""
    data_digest: str = ""


def read_published(path: Path = PUBLISHED_FILE) -> list[PublishedTable]:
    return [PublishedTable.model_validate(table) for table in yaml.safe_load(path.read_text(encoding="utf-8"))]


def ledger(tables: list[PublishedTable], this_run: ThisRun) -> list[LedgerTable]:
    return [_table(table, this_run) for table in tables]


def _table(table: PublishedTable, this_run: ThisRun) -> LedgerTable:
    notes = [*table.notes]
    names = {column[0]: column[1] for column in table.columns}
    notes += [
        f"{names[column]}: not measurable in this project ({why})."
        for column, why in table.unmeasurable_columns.items()
    ]
    return LedgerTable(
        title=f"{table.paper}, {table.place}: {table.title}",
        headings=[(heading, better == "high") for _, heading, _, _, better in table.columns],
        rows=[_row(table, row, this_run) for row in table.rows],
        notes=notes,
    )


@dataclass(frozen=True)
class _Found:
    """Values under a table's columns, the settings that they were measured with, and where they come from."""

    values: list[str]
    tree: Mapping[str, Any]
    origin: str  # runs and digests
    label: str


def _row(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> LedgerRow:
    needs = table.needs if row.needs is None else row.needs
    candidates = [found for found in (_in_tables(table, row, this_run), _in_run(table, row, this_run)) if found]
    faithful = next((one for one in candidates if _holds(one.tree, needs)), None)
    other = candidates[0] if candidates and not faithful else None
    measured, origin = (faithful.values, faithful.origin) if faithful else _counted(row)
    state, detail = ("measured here", origin) if measured else _state(table, row, this_run)
    states = _states(table, row, state, measured)
    if measured and "not measured here" in states:
        left = [c[1] for c, one in zip(table.columns, states, strict=True) if one == "not measured here"]
        detail += f"; not measured here: {', '.join(left)} ({_command(table, row)})"
    orientation, source = (other.values, other.label) if other else (None, "")
    if row.benchmark_key:
        orientation, source = _timed(row.benchmark_key, this_run.times)
    return LedgerRow(
        name=row.name,
        published=[_as_printed(value) for value in row.values],
        state=state,
        detail=detail,
        measured=measured,
        orientation=orientation,
        source=source,
        states=states,
    )


def _states(
    table: PublishedTable, row: PublishedRow, state: State, measured: Sequence[str] | None
) -> list[State | None]:
    """Of each figure: its column may be beyond this project, and a run may have measured only some."""
    states: list[State | None] = []
    for place, (value, column) in enumerate(zip(row.values, table.columns, strict=True)):
        if value is None:
            states.append(None)
        elif column[0] in table.unmeasurable_columns:
            states.append("not measurable in this project")
        else:
            states.append("not measured here" if measured and measured[place] == "–" else state)
    return states


def _holds(tree: Mapping[str, Any], settings: Mapping[str, Value]) -> bool:
    return all(setting(tree, key) == value for key, value in settings.items())


def _in_run(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> _Found | None:
    """What this very run scored, if it is the row's method."""
    tree = this_run.params.model_dump()
    if not row.settings or not _holds(tree, row.settings):
        return None
    scores = {
        f"{task}.{name}": value for task, of in this_run.metrics.get(OURS, {}).items() for name, value in of.items()
    }
    entries = {name: {"mean": value, "sd": None} for name, value in scores.items()}
    parts = {"run": this_run.run, "params": this_run.params_digest, "data": this_run.data_digest}
    origin = ", ".join(f"{name} {value[:SHOWN]}" for name, value in parts.items() if value)
    values = _printed(table, entries)
    return _Found(values, tree, origin, f"this run, profile {this_run.params.profile}") if values else None


def _in_tables(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> _Found | None:
    """What `python -m pipelines.tables` measured for the row, over its seeds."""
    for study in this_run.tables.values():
        if table.id not in study["published"]:
            continue
        for variant in study["rows"]:
            values = _printed(table, variant["figures"]) if variant["published"] == row.name else None
            if values:
                runs = ", ".join(run["run"] for run in variant["runs"])
                digests = f"params {study['params_digest'][:SHOWN]}, data {study['data_digest'][:SHOWN]}"
                seeds = len(variant["runs"])
                label = f"profile {study['profile']}, {seeds} seed{'s' * (seeds > 1)}"
                return _Found(values, changed(study["params"], variant["settings"]), f"{runs}, {digests}", label)
    return None


def _printed(table: PublishedTable, entries: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
    """`mean ± spread` under each of the table's columns, as the paper scales them; None where there is nothing."""
    values = []
    for _, _, metric, factor, _ in table.columns:
        entry = entries.get(metric or "")
        spread = "" if entry is None or entry["sd"] is None else f" ± {entry['sd'] * factor:.1f}"
        values.append("–" if entry is None else typeset(f"{entry['mean'] * factor:.1f}") + spread)
    return values if any(value != "–" for value in values) else None


def _counted(row: PublishedRow) -> tuple[list[str] | None, str]:
    """The size of a part, counted on the modules as this version builds them."""
    if not (row.counted and module_exists("components.costs.published")):
        return None, ""
    from components.costs.published import MIB, adapter_bytes, vce_bytes

    part, _, rank = row.counted.partition(" ")
    size = (vce_bytes() if part == "vce" else adapter_bytes(part, int(rank))) / MIB
    return [f"{size:.2f}" if part == "vce" else f"{size:g}"], "counted on the modules as they are built (lea plan)"


def _timed(method: str, times: Mapping[str, Any]) -> tuple[list[str] | None, str]:
    """A method's time against LoRA's in the whole LLaVA, as benchmarks/adapters.py measured it, and where."""
    for setting_name, phases in times.get("ratios", {}).items():
        if setting_name.endswith(" llava") and method in phases["prefill"]:
            prefill = phases["prefill"]
            where = f"language model of width {setting_name.removesuffix(' llava')} on one core of {times['processor']}"
            again = prefill.get("lora again", {}).get("ratio")  # noise: what a second LoRA shows
            noise = f", a second LoRA beside it {again:.2f}" if again else ""
            return [f"{prefill[method]['ratio']:.2f}"], f"here, {where}, {times['date']}{noise}"
    return None, ""


def _state(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> tuple[State, str]:
    lacking = row.unmeasurable or _lacking(table, row, this_run)
    if lacking:
        return "not measurable in this project", lacking
    return "not measured here", _command(table, row)


def _command(table: PublishedTable, row: PublishedRow) -> str:
    options = " ".join(f"-S {key}={_yaml(value)}" for key, value in row.settings.items())
    return (row.command or table.command).replace("{settings}", options).strip()


def _lacking(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> str | None:
    """What this version of the project would need first; None when the command can be typed."""
    wanted = [table.benchmark] if table.benchmark else table.benchmarks
    unknown = [name for name in wanted if name not in this_run.benchmarks]
    if unknown:
        return f"this version has no benchmark {', '.join(unknown)}"
    if table.profile and table.profile not in this_run.profiles:
        return f"this version has no profile {table.profile}"
    if table.requires and not module_exists(table.requires):
        return f"this version has no {table.requires}"
    overlay = this_run.profiles.get(table.profile or "", {})
    try:
        validate_params(changed(merged(this_run.params.model_dump(), overlay), row.settings))
    except UserError as error:
        return f"with this version {str(error).removeprefix('params.yaml: ').partition(' (and ')[0]}"
    return None


def module_exists(name: str, find: Callable[[str], Any] = importlib.util.find_spec) -> bool:
    try:
        return find(name) is not None
    except ModuleNotFoundError:  # its package is not there
        return False


def _as_printed(value: float | None) -> str:
    return "–" if value is None else typeset(f"{value:g}" if value != round(value, 1) else f"{value:.1f}")


def _yaml(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
