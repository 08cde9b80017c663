"""Looks after a search while it runs: a line per report, MLflow, and run folders that are not needed any more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.tune import Callback, Stopper

from components.files import write_json
from components.search.result import BYTES_PER_PARAMETER, FAILED, FINISHED, STOPPED, state_of, why_lost
from components.search.space import decode
from components.search.trial import METRIC, Setting
from components.search.upkeep import num_bytes, prune
from components.tracking.runs import RunRecord, sync_training
from components.training.checkpoint import CHECKPOINTS, latest_step
from components.workspace import home

NUMBERS_FILE = "numbers.json"
ENDED = ("TERMINATED", "ERROR")  # Ray Tune's words
STATUS = {FINISHED: "FINISHED", STOPPED: "KILLED", FAILED: "FAILED"}  # MLflow's


def number_of(state: Path, trial_id: str) -> int:
    """The trial's number, from 1 as trials are drawn; kept on disk, for Ray orders them anew when a search goes on."""
    file = state / NUMBERS_FILE
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if trial_id not in known:
        known[trial_id] = len(known) + 1
        write_json(file, known)
    return known[trial_id]


def error_of(trial: Any) -> Any:
    """What ended a trial's process, as soon as Ray Tune knows: `trial.get_pickled_error` finds it later."""
    file = Path(trial.pickled_error_file or "")
    if not file.is_file():
        return None
    try:
        return cloudpickle.loads(file.read_bytes())
    except Exception as error:  # an exception of a library's own may not come back whole; the search goes on
        return RayTaskError("trial", "", error)


class Follow(Callback):
    """Called in the driver's process, in order. Ray stores it with the search's state: it holds plain values."""

    def __init__(self, setting: Setting, data: Mapping[str, str], default_run: str, state: Path) -> None:
        self._setting, self._data, self._state = setting, dict(data), state
        self._default_run = default_run

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        for drawn in trials:  # of two that begin together the later drawn may be up first
            number_of(self._state, drawn.trial_id)

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict, **_: Any) -> None:
        number, of = number_of(self._state, trial.trial_id), self._setting.tree["tune"]["budget"]["trials"]
        if "failed" in result:
            _say(f"trial {number}/{of} failed: {result['failed']}")
            return
        _say(f"trial {number}/{of} epoch {result['epoch']:.2f}: loss {result[METRIC]:.4f}{_best(trials)}")
        folder = home() / "runs" / result["run"]
        sync_training(self._record(number, trial, result), through=latest_step(folder / CHECKPOINTS))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trials, trial, lost="")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        self._end(trials, trial, why_lost(error_of(trial)))

    def _end(self, trials: list[Any], trial: Any, lost: str) -> None:
        number, last = number_of(self._state, trial.trial_id), trial.last_result or {}
        state, why = state_of(last, lost)
        if state == STOPPED:
            _say(f"trial {number} stopped early at epoch {last.get('epoch', 0):.2f}")
        sync_training(self._record(number, trial, last, state, why), finished=True)
        self._prune([t for t in trials if t.status in ENDED or t is trial], trials, trial)

    def _prune(self, ended: list[Any], trials: list[Any], latest: Any) -> None:
        """Remove the runs of trials that have lost. The latest one's workers may still be writing: it goes later."""
        best = [end["run"] for end in _finished(ended)[:1]]
        going_on = [t.config for t in trials if t not in ended]  # the same point may be drawn twice
        lost = [t for t in ended if t is not latest and t.config not in going_on]
        names = {(t.last_result or {}).get("run", "") for t in lost}
        prune(self._setting.search, names - {self._default_run, *best, (latest.last_result or {}).get("run")})

    def _record(
        self, number: int, trial: Any, last: Mapping[str, Any], state: str | None = None, why: str = ""
    ) -> RunRecord:
        """A trial as MLflow sees it; `state` once it has ended."""
        search = self._setting.search
        ended = {"lea.state": state, **({"lea.why": why[:5000]} if why else {})} if state else {}
        return RunRecord(
            digest=f"{search}-{trial.trial_id}",
            name=f"trial {number}",
            params={"trial": number, **decode(trial.config, self._setting.space), "run": last.get("run", "")},
            data=self._data,
            folder=home() / "runs" / (last.get("run") or f"{search}-{trial.trial_id}"),
            tags={"lea.search": search, **ended},
            parent=search,
            status=STATUS[state] if state else "RUNNING",
            costs={
                "cost.seconds": float(last.get("time_total_s", 0)),
                "cost.step_seconds": float(last.get("step_seconds", 0)),
                "cost.adapter_bytes": float(BYTES_PER_PARAMETER * last.get("adapter_parameters", 0)),
                "cost.trainable_bytes": float(BYTES_PER_PARAMETER * last.get("trainable_parameters", 0)),
            },
        )


class Budget(Stopper):
    """Ends a search whose trials hold more disk than it may."""

    def __init__(self, search: str, most_bytes: float) -> None:
        self._search, self._most_bytes, self._is_spent = search, most_bytes, False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        size = num_bytes(self._search)
        if size > self._most_bytes and not self._is_spent:
            self._is_spent = True
            _say(f"the trials hold {size / 1e9:.2f} GB, more than tune.budget.disk_gb: the search ends here")
        return False

    def stop_all(self) -> bool:
        return self._is_spent


def _finished(ended: list[Any]) -> list[Mapping[str, Any]]:
    """Last reports of the trials that came to their end, the best first."""
    last = [trial.last_result or {} for trial in ended]
    return sorted((end for end in last if state_of(end, lost="")[0] == FINISHED), key=lambda end: end[METRIC])


def _best(trials: list[Any]) -> str:
    ended = [trial for trial in trials if trial.status in ENDED]
    finished = _finished(ended)
    return f"; {len(ended)} ended" + (f", best {finished[0][METRIC]:.4f}" if finished else "")


def _say(line: str) -> None:
    print(f"tune: {line}", flush=True)
