"""A search's result: states, the best, the front, files that read back, importance, pictures."""

from __future__ import annotations

import csv
import json
import math
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from ray.exceptions import RayActorError, RayTaskError

from components.errors import UserError
from components.params import Params, load_params
from components.search.importance import importances, ranks, strength
from components.search.plots import plots
from components.search.result import (
    FAILED,
    FINISHED,
    LOST,
    STOPPED,
    Trial,
    apply_line,
    best_of,
    from_json,
    front,
    make_trial,
    read_best,
    state_of,
    to_json,
    why_lost,
    write_best,
    write_table,
)
from components.search.space import Dimension, apply
from components.svg import alone

ROOT = Path(__file__).parents[2]
SPACE = [
    Dimension("adapter.rank", "choice", (2, 4, 8)),
    Dimension("adapter.targets", "choice", (["q_proj"], ["q_proj", "v_proj"])),
    Dimension("finetune.learning_rate.adapter", "log_uniform", (1e-3, 1e-2)),
]


def trial(number: int, loss: float, epoch: float = 3.0, rank: int = 4, **more: Any) -> Trial:
    values = {"adapter.rank": rank, "adapter.targets": ["q_proj"], "finetune.learning_rate.adapter": 1e-3 * number}
    last = {"step": 30 * epoch, "of": 90, "adapter_parameters": 512 * rank, "time_total_s": 10.0, **more}
    curve = [[0.5 * k, loss + 1 / k, 10.0 * number + k] for k in range(1, int(2 * epoch) + 1)]
    return make_trial(number, values, last, "", [] if "failed" in more else curve)


def test_state_is_that_of_the_last_report() -> None:
    assert state_of({"step": 9, "of": 9}, "") == (FINISHED, "")
    assert state_of({"step": 9, "of": 9}, "lost after its end") == (FINISHED, "")
    assert state_of({"step": 3, "of": 9}, "") == (STOPPED, "")
    assert state_of({"failed": "no memory"}, "") == (FAILED, "no memory")
    assert state_of({}, "lost") == (FAILED, "lost")


def test_why_a_process_ended_is_what_it_raised_or_that_it_was_lost() -> None:
    raised = RayTaskError("trial", "a traceback", ValueError("no room\nfor more"))
    assert why_lost(raised) == "ValueError: no room"
    assert why_lost(RayActorError()) == why_lost(None) == LOST


def test_best_has_come_to_its_end() -> None:
    trials = [trial(1, 0.5), trial(2, 0.2, epoch=1.5), trial(3, 0.4), trial(4, 0.1, failed="NaN")]
    assert best_of(trials).number == 3
    with pytest.raises(UserError, match="no trial of 1 finished: NaN"):
        best_of(trials[3:])


def test_front_holds_what_no_smaller_adapter_beats() -> None:
    trials = [trial(1, 0.5, rank=2), trial(2, 0.3, rank=4), trial(3, 0.35, rank=8), trial(4, 0.25, rank=16)]
    assert [t.number for t in front([*trials, trial(5, 0.1, epoch=1, rank=2)])] == [1, 2, 4]


def test_best_params_are_a_valid_overlay(params: Params, tmp_path: Path) -> None:
    values = {"adapter.rank": 4, "adapter.targets": ["q_proj"], "finetune.learning_rate.adapter": 0.00123}
    write_best(tmp_path / "best.yaml", values)
    assert read_best(tmp_path / "best.yaml") == values
    changed = apply(params, read_best(tmp_path / "best.yaml"))
    assert (changed.adapter.rank, changed.adapter.targets) == (4, ["q_proj"])


def test_apply_line_survives_the_shell() -> None:
    words = shlex.split(apply_line({"adapter.rank": 4, "adapter.targets": ["q_proj", "v_proj"]}))
    assert words == ["dvc", "exp", "run", "-S", "adapter.rank=4", "-S", 'adapter.targets=["q_proj", "v_proj"]']


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("adapter.targets", ["q_proj", "v_proj"]),
        ("adapter.targets", r"layers\.(0|1)\..*_proj"),
        ("adapter.targets", r"layers\.[01]\..*_proj$"),
        ("adapter.targets", 'an "odd" one\\"\\\\'),
        ("adapter.targets", "a,b c"),
        ("adapter.dual_lora.activation", "none"),
        ("adapter.dropout", 1e-05),
        ("finetune.learning_rate.adapter", 0.001234567890123456),
        ("training.deepspeed", {"zero_optimization": {"overlap_comm": True, "round_robin_gradients": True}}),
        ("training.deepspeed", {}),
        ("vce.enabled", False),
        ("finetune.weight_decay", 0.1),
    ],
)
def test_apply_line_and_overlay_say_the_same_as_the_trial(key: str, value: Any, params: Params, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    wanted = apply(params, {key: value})
    write_best(tmp_path / "best.yaml", {key: value})
    assert apply(params, read_best(tmp_path / "best.yaml")) == wanted
    shutil.copy(ROOT / "params.yaml", tmp_path)
    apply_overrides(tmp_path / "params.yaml", [shlex.split(apply_line({key: value}))[-1]])
    assert load_params(tmp_path / "params.yaml") == wanted


def test_table_has_a_row_per_trial_best_first(tmp_path: Path) -> None:
    trials = [trial(1, 0.5), trial(2, 0.2, epoch=1.5), trial(3, 0.4), trial(4, 0.1, failed="NaN")]
    write_table(tmp_path / "trials.csv", trials)
    with (tmp_path / "trials.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trial"] for row in rows] == ["3", "1", "2", "4"]
    assert float(rows[0]["adapter_kib"]) == 512 * 4 * 2 / 1024
    assert rows[-1]["why"] == "NaN"


def test_trials_pass_through_json() -> None:
    failed = trial(1, 0.1, failed="NaN")
    again = from_json(json.loads(json.dumps(to_json(failed), allow_nan=False)))
    assert math.isnan(again.loss)
    assert from_json(to_json(trial(2, 0.2))) == trial(2, 0.2)


def test_ranks_share_places() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 9.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_strength_is_one_where_the_setting_decides_and_zero_where_it_is_even() -> None:
    losses = np.array([0.1, 0.2, 0.4, 0.8])
    assert strength([1, 2, 4, 9], losses, True) == pytest.approx(1)
    assert strength([9, 4, 2, 1], losses, True) == pytest.approx(1)
    assert strength([1, 1, 1, 1], losses, True) == 0
    assert strength(["a", "b", "b", "a"], losses, False) == pytest.approx(0)
    assert strength(["a", "a", "b", "b"], np.array([1.0, 1.0, 2.0, 2.0]), False) == pytest.approx(1)


def test_importance_leaves_out_a_trial_that_was_trained_unwatched() -> None:
    trials = [trial(number, 0.1 * number, epoch=1.5) for number in range(1, 9)]
    unwatched = replace(trial(9, 0.1), curve=[(3.0, 0.1, 60.0)])
    found = importances([*trials, unwatched], SPACE)
    assert (found[0].epoch, found[0].num_trials) == (1.5, 8)


def test_importance_compares_at_an_epoch_that_all_reached() -> None:
    trials = [trial(number, 0.1 * number, epoch=1.5 if number % 2 else 3) for number in range(1, 9)]
    found = importances([*trials, trial(9, 0.1, failed="NaN")], SPACE)
    assert (found[0].key, found[0].epoch, found[0].num_trials) == ("finetune.learning_rate.adapter", 1.5, 8)
    assert found[0].strength == pytest.approx(1)
    assert found[0].strength > found[0].chance
    assert importances(trials[:3], SPACE) == []


def test_pictures_are_whole_and_name_what_they_show() -> None:
    trials = [trial(n, 1 / n, rank=2 * n, epoch=3 if n % 2 else 1.5) for n in range(1, 7)] + [trial(7, 0, failed="NaN")]
    drawn = plots(trials, SPACE, importances(trials, SPACE))
    assert drawn.keys() == {"parallel", "importance", "best_so_far", "front"}
    for svg in drawn.values():
        ET.fromstring(alone(svg))
        assert "nan" not in svg
    assert "adapter.targets" in drawn["parallel"]
    assert "not beaten: trial 1" in drawn["front"]


def test_pictures_without_anything_to_show_are_left_out() -> None:
    assert plots([trial(1, 0.1, failed="NaN")], SPACE, []) == {}
