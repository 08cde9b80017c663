"""What a search found: one record per trial, the best of them, and the files that say so."""

from __future__ import annotations

import csv
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import UserError
from components.params.trees import flatten, nested

FINISHED, STOPPED, FAILED = "finished", "stopped early", "failed"
LOST = "its process was lost more often than tune.max_failures allows"
BYTES_PER_PARAMETER = 2  # of bf16, in which the papers count
RESULT_FILE, TRIALS_FILE, BEST_FILE = "search.json", "trials.csv", "best_params.yaml"


@dataclass(frozen=True)
class Trial:
    """A trial as it ended. `curve`: (epoch, validation loss, seconds since the search began) of each report."""

    number: int
    values: dict[str, Any]
    state: str
    why: str  # of a failed one
    loss: float  # on the validation split, at the last report; NaN where there was none
    epoch: float
    seconds: float  # from its start to its end
    step_seconds: float
    adapter_bytes: int
    trainable_bytes: int
    run: str  # folder of its run state, "" where it got none
    start: str  # folder of a stage 1 of its own, "" where it began from models/pretrain
    curve: list[list[float]]


def why_lost(error: Any) -> str:
    """In one line, why a trial's process ended for good: what it raised, or that it was lost."""
    cause = getattr(error, "cause", None)  # of Ray's error, where the process raised one
    words = str(cause).strip().splitlines() or [""]
    return f"{type(cause).__name__}: {words[0]}" if cause else LOST


def state_of(last: Mapping[str, Any], lost: str) -> tuple[str, str]:
    """How a trial ended by its last report: the state, and why it failed. `lost`: why its process ended for good."""
    if "failed" in last:
        return FAILED, str(last["failed"])
    if last.get("step", -1) == last.get("of"):
        return FINISHED, ""
    return (FAILED, lost) if lost else (STOPPED, "")


def make_trial(
    number: int, values: dict[str, Any], last: Mapping[str, Any], lost: str, curve: list[list[float]]
) -> Trial:
    """A trial's record from its last report and the reports before."""
    state, why = state_of(last, lost)
    known = curve[-1] if curve else [0.0, math.nan, 0.0]
    return Trial(
        number=number,
        values=values,
        state=state,
        why=why,
        loss=known[1],
        epoch=known[0],
        seconds=float(last.get("time_total_s", 0.0)),
        step_seconds=float(last.get("step_seconds", 0.0)),
        adapter_bytes=BYTES_PER_PARAMETER * int(last.get("adapter_parameters", 0)),
        trainable_bytes=BYTES_PER_PARAMETER * int(last.get("trainable_parameters", 0)),
        run=str(last.get("run", "")),
        start=str(last.get("start", "")),
        curve=curve,
    )


def best_of(trials: Sequence[Trial]) -> Trial:
    """The finished trial with the lowest loss."""
    finished = [trial for trial in trials if trial.state == FINISHED]
    if not finished:
        why = next((trial.why for trial in trials if trial.why), "none came to its end within the budget")
        raise UserError(f"tune: no trial of {len(trials)} finished: {why}")
    return min(finished, key=lambda trial: trial.loss)


def front(trials: Sequence[Trial]) -> list[Trial]:
    """Finished trials that no other beats in loss without a larger adapter, small adapters first."""
    chosen: list[Trial] = []
    for trial in sorted((t for t in trials if t.state == FINISHED), key=lambda t: (t.adapter_bytes, t.loss)):
        if not chosen or trial.loss < chosen[-1].loss:
            chosen.append(trial)
    return chosen


def apply_line(values: Mapping[str, Any]) -> str:
    """The command that repeats the pipeline with `values`."""
    new = {key: "++" if isinstance(value, dict) else "" for key, value in values.items()}  # its keys may be new
    parts = (f"{new[key]}{key}={_override(value)}" for key, value in values.items())
    return "dvc exp run " + " ".join(f"-S {shlex.quote(part)}" for part in parts)


def _override(value: Any, inside: bool = False) -> str:
    """A value in the grammar of Hydra's overrides, which is that of `-S`: text in quotes, but for plain words."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_override(inner, True)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_override(inner, True) for inner in value) + "]"
    if isinstance(value, str) and (inside or not re.fullmatch(r"[A-Za-z]\w*", value)):
        # Backslashes count only before a quote: there each is written twice.
        return '"' + re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + found[2].replace('"', r"\""), value) + '"'
    return str(value)


def write_best(path: Path, values: Mapping[str, Any]) -> None:
    """The best trial as an overlay of params.yaml."""
    head = f"# The best trial, as an overlay of params.yaml. Apply it with:\n# {apply_line(values)}\n"
    path.write_text(head + yaml.safe_dump(nested(values), sort_keys=False), encoding="utf-8")


def read_best(path: Path) -> dict[str, Any]:
    """Settings by dotted key, as `write_best` wrote them."""
    return flatten(yaml.safe_load(path.read_text(encoding="utf-8")))


def table(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """One row per trial, best first, failed ones last; for trials.csv and the screen."""
    order = {FINISHED: 0, STOPPED: 1, FAILED: 2}
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "validation_loss": trial.loss,
            "epoch": trial.epoch,
            **trial.values,
            "adapter_kib": trial.adapter_bytes / 1024,
            "trainable_kib": trial.trainable_bytes / 1024,
            "step_seconds": trial.step_seconds,
            "seconds": trial.seconds,
            "why": trial.why,
        }
        for trial in sorted(trials, key=lambda t: (order[t.state], -t.epoch if t.state == STOPPED else 0, t.loss))
    ]


def write_table(path: Path, trials: Sequence[Trial]) -> None:
    rows = table(trials)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def to_json(trial: Trial) -> dict[str, Any]:
    """A trial as JSON takes it: no NaN."""
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in asdict(trial).items()}


def from_json(entry: Mapping[str, Any]) -> Trial:
    return Trial(**{**entry, "loss": math.nan if entry["loss"] is None else entry["loss"]})
