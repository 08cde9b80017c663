"""What a search found: one record per trial, the best of them, and the files that say so."""

from __future__ import annotations

import csv
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import UserError
from components.search.space import leaves, nested

FINISHED, STOPPED, FAILED = "finished", "stopped early", "failed"
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


def state_of(last: Mapping[str, Any], lost: bool) -> tuple[str, str]:
    """How a trial ended by its last report: the state, and why it failed. `lost`: its process died for good."""
    if "failed" in last:
        return FAILED, str(last["failed"])
    if lost:
        return FAILED, "its process was lost more often than tune.max_failures allows"
    return (FINISHED if last.get("step", -1) == last.get("of") else STOPPED), ""


def make_trial(
    number: int, values: dict[str, Any], last: Mapping[str, Any], lost: bool, curve: list[list[float]]
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
    parts = (
        f"{key}={json.dumps(value) if isinstance(value, (list, dict)) else value}" for key, value in values.items()
    )
    return "dvc exp run " + " ".join(f"-S {shlex.quote(part)}" for part in parts)


def write_best(path: Path, values: Mapping[str, Any]) -> None:
    """The best trial as an overlay of params.yaml."""
    head = f"# The best trial, as an overlay of params.yaml. Apply it with:\n# {apply_line(values)}\n"
    path.write_text(head + yaml.safe_dump(nested(values), sort_keys=False), encoding="utf-8")


def read_best(path: Path) -> dict[str, Any]:
    """Settings by dotted key, as `write_best` wrote them."""
    return leaves(yaml.safe_load(path.read_text(encoding="utf-8")))


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
