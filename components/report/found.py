"""Where a figure beside a published one comes from: this run, a table that was measured, a count, or a benchmark."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.params.trees import Value, changed, setting
from components.report.figures import typeset
from components.report.forms import Form, form_of
from components.report.published import PublishedRow, PublishedTable, ThisRun
from components.report.results import OURS

SHOWN = 12  # digits of a digest


@dataclass(frozen=True)
class Found:
    """Values under a table's columns, the settings that they were measured with, and where they come from."""

    values: list[str]
    tree: Mapping[str, Any]
    origin: str  # runs and digests
    label: str
    same_data: bool  # as this run's
    seeds: list[str]  # of each column: how many, and the interval of the difference to the first row

    @property
    def form(self) -> Form:
        return form_of(self.tree)


def holds(tree: Mapping[str, Any], settings: Mapping[str, Value]) -> bool:
    return all(setting(tree, key) == value for key, value in settings.items())


def in_run(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> list[Found]:
    """What this very run scored, if it is the row's method."""
    tree = this_run.params.model_dump()
    if not row.settings or not holds(tree, row.settings):
        return []
    scores = {
        f"{task}.{name}": value for task, of in this_run.metrics.get(OURS, {}).items() for name, value in of.items()
    }
    entries = {name: {"mean": value, "sd": None} for name, value in scores.items()}
    parts = {"run": this_run.run, "params": this_run.params_digest, "data": this_run.data_digest}
    origin = ", ".join(f"{name} {value[:SHOWN]}" for name, value in parts.items() if value)
    values = _printed(table, entries)
    label = f"this run, profile {this_run.params.profile}"
    seeds = ["1 seed"] * len(table.columns)
    return [Found(values, tree, origin, label, True, seeds)] if values else []


def in_tables(table: PublishedTable, row: PublishedRow, this_run: ThisRun) -> list[Found]:
    """What `python -m pipelines.tables` measured for the row, over its seeds."""
    found = []
    for study in this_run.tables.values():
        if table.id not in study["published"]:
            continue
        for variant in study["rows"]:
            is_row = variant["published"] == row.name or variant["name"] == f"{row.name} (released)"
            values = _printed(table, variant["figures"]) if is_row else None
            if values:
                runs = ", ".join(run["run"] for run in variant["runs"])
                digests = f"params {study['params_digest'][:SHOWN]}, data {study['data_digest'][:SHOWN]}"
                label = f"profile {study['profile']}, {_count_seeds(variant)}"
                tree = changed(study["params"], variant["settings"])
                same = study["data_digest"] == this_run.data_digest
                found.append(Found(values, tree, f"{runs}, {digests}", label, same, _seeds(table, study, variant)))
    return found


def _count_seeds(variant: Mapping[str, Any]) -> str:
    number = len(variant["runs"])
    return f"{number} seed{'s' * (number > 1)}"


def _seeds(table: PublishedTable, study: Mapping[str, Any], variant: Mapping[str, Any]) -> list[str]:
    """`3 seeds; +1.2 (+0.3 to +2.1) against LoRA` for each column."""
    first, said = study["rows"][0]["name"], []
    for _, _, metric, factor, _ in table.columns:
        entry = study["differences"].get(f"{metric}: {variant['name']} - {first}")
        low, value, high = (entry[key] * factor for key in ("low", "value", "high")) if entry else (0.0, 0.0, 0.0)
        interval = typeset(f"; {value:+.1f} ({low:+.1f} to {high:+.1f}) against ") + first if entry else ""
        said.append(_count_seeds(variant) + interval)
    return said


def _printed(table: PublishedTable, entries: Mapping[str, Mapping[str, Any]]) -> list[str] | None:
    """`mean ± spread` under each of the table's columns, as the paper scales them; None where there is nothing."""
    values = []
    for _, _, metric, factor, _ in table.columns:
        entry = entries.get(metric or "")
        spread = "" if entry is None or entry["sd"] is None else f" ± {entry['sd'] * factor:.1f}"
        values.append("–" if entry is None else typeset(f"{entry['mean'] * factor:.1f}") + spread)
    return values if any(value != "–" for value in values) else None


def counted(row: PublishedRow) -> tuple[list[str] | None, str]:
    """The size of a part, counted on the modules as this version builds them."""
    if not (row.counted and module_exists("components.costs.published")):
        return None, ""
    from components.costs.published import MIB, adapter_bytes, vce_bytes

    part, _, rank = row.counted.partition(" ")
    size = (vce_bytes() if part == "vce" else adapter_bytes(part, int(rank))) / MIB
    return [f"{size:.2f}" if part == "vce" else f"{size:g}"], "counted on the modules as they are built (lea plan)"


def timed(method: str, times: Mapping[str, Any]) -> tuple[list[str] | None, str]:
    """A method's time against LoRA's in the whole LLaVA, as benchmarks/adapters.py measured it, and where."""
    for setting_name, phases in times.get("ratios", {}).items():
        if setting_name.endswith(" llava") and method in phases["prefill"]:
            prefill = phases["prefill"]
            where = f"language model of width {setting_name.removesuffix(' llava')} on one core of {times['processor']}"
            again = prefill.get("lora again", {}).get("ratio")  # noise: what a second LoRA shows
            noise = f", a second LoRA beside it {again:.2f}" if again else ""
            return [f"{prefill[method]['ratio']:.2f}"], f"here, {where}, {times['date']}{noise}"
    return None, ""


def module_exists(name: str, find: Callable[[str], Any] = importlib.util.find_spec) -> bool:
    try:
        return find(name) is not None
    except ModuleNotFoundError:  # its package is not there
        return False
