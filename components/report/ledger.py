"""The ledger: every published figure beside what is known of it here.

A row of figures is in one of three states: measured here (with spread over seeds, runs, digests of params and data);
not measured here, with the command that would do it; not measurable in this project, with the reason. What the same
method scored on other data and another base (in a table of `make table1`, or in this very run) is a fourth thing and
never put in the place of a published figure: it is shown as `orientation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from components.errors import UserError
from components.params import validate_params
from components.params.trees import Value, changed, merged
from components.report.figures import typeset
from components.report.forms import FORMS, released_form
from components.report.found import Found, counted, holds, in_run, in_tables, module_exists, timed
from components.report.published import PublishedRow, PublishedTable, ThisRun, read_published

__all__ = ["LedgerRow", "LedgerTable", "PublishedTable", "ThisRun", "ledger", "read_published"]
State = Literal["measured here", "not measured here", "not measurable in this project"]


@dataclass(frozen=True)
class LedgerFigure:
    """A printed figure beside ours in both forms; empty where not measured. In parentheses: on other data or base."""

    heading: str
    higher_is_better: bool
    printed: str
    ours_printed: str
    ours_released: str
    seeds: str  # and the interval of the difference to the table's first row


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
    released_form: str = ""  # how the authors' code differs from print for this row
    figures: list[LedgerFigure] = field(default_factory=list)  # printed ones, in the order of the columns
    reason: str = ""  # why ours differs from print; empty where nothing was measured

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


def _row(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> LedgerRow:
    needs = table.needs if row.needs is None else row.needs
    candidates = [*in_tables(table, row, this_run), *in_run(table, row, this_run)]
    paper, released = (_chosen([found for found in candidates if found.form == form], needs) for form in FORMS)
    measured, origin = (paper[0].values, paper[0].origin) if paper[0] else counted(row)
    state, detail = ("measured here", origin) if measured else _state(table, row, this_run)
    states = _states(table, row, state, measured)
    if measured and "not measured here" in states:
        left = [c[1] for c, one in zip(table.columns, states, strict=True) if one == "not measured here"]
        detail += f"; not measured here: {', '.join(left)} ({_command(table, row)})"
    orientation, source = (paper[1].values, paper[1].label) if paper[1] else (None, "")
    if row.benchmark_key:
        orientation, source = timed(row.benchmark_key, this_run.times)
    return LedgerRow(
        name=row.name,
        published=[_as_printed(value) for value in row.values],
        state=state,
        detail=detail,
        measured=measured,
        orientation=orientation,
        source=source,
        states=states,
        released_form=row.released or released_form(row.settings),
        figures=_figures(table, row, _beside(measured, orientation, table), paper, released),
        reason=_reason(source or (released[1].label if released[1] else ""), row),
    )


Chosen = tuple[Found | None, Found | None]  # measured under the paper's settings; otherwise: on this run's data


def _figures(
    table: PublishedTable, row: PublishedRow, ours: Sequence[str], paper: Chosen, released: Chosen
) -> list[LedgerFigure]:
    known = next((found for found in (*paper, *released) if found), None)
    seeds = known.seeds if known else [""] * len(table.columns)
    faithful, other = (found.values if found else None for found in released)
    as_released = _beside(faithful, other, table)
    return [
        LedgerFigure(column[1], column[4] == "high", _as_printed(value), first, second, seeds_of)
        for column, value, first, second, seeds_of in zip(
            table.columns, row.values, ours, as_released, seeds, strict=True
        )
        if value is not None
    ]


def _chosen(found: Sequence[Found], needs: Mapping[str, Value]) -> Chosen:
    faithful = next((one for one in found if holds(one.tree, needs)), None)
    return faithful, None if faithful else next((one for one in found if one.same_data), None)


def _beside(measured: Sequence[str] | None, orientation: Sequence[str] | None, table: PublishedTable) -> list[str]:
    """What stands beside each printed figure; empty where nothing was measured."""
    if measured:
        return ["" if value == "–" else value for value in measured]
    return ["" if value == "–" else f"({value})" for value in orientation or ["–"] * len(table.columns)]


def _reason(source: str, row: PublishedRow) -> str:
    if not source:
        return ""
    return source if row.benchmark_key else f"another base and other data ({source})"


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


def _as_printed(value: float | None) -> str:
    return "–" if value is None else typeset(f"{value:g}" if value != round(value, 1) else f"{value:.1f}")


def _yaml(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
