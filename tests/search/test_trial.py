"""What a trial does around its training: no Ray here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.errors import UserError
from components.files import write_text
from components.params import Params
from components.search import trial
from components.search.trainable import PointTrainable
from components.search.trial import METRIC, RUNG, Setting, forget_other_samples
from components.shared_storage import shared_storage
from components.snapshots import Digests, publish
from components.training.checkpoint import TrainState, save_checkpoint
from components.training.job import Job, Validation
from components.training.journal import VALIDATION_FILE, append
from components.training.remote import recall
from components.training.run_files import SAMPLES_FILE, state_files


def watched(params: Params, folder: Path, validation: Validation) -> Job:
    return Job(
        stage="finetune",
        seed=1,
        recipe=params.finetune,
        vce=None,
        vlora=None,
        adapter=None,
        training=params.training,
        base=Path(),
        start=None,
        prepared="",
        assignments=Path(),
        inputs={},
        sources={},
        folder=folder,
        validation=validation,
    )


@pytest.mark.parametrize(
    ("asked", "is_kept"), [(Validation(10, 0), True), (Validation(20, 0), True), (Validation(10, 50), False)]
)
def test_losses_of_other_samples_are_measured_again(
    asked: Validation, is_kept: bool, params: Params, tmp_path: Path
) -> None:
    losses = tmp_path / VALIDATION_FILE
    losses.write_text("of an unknown number\n", encoding="utf-8")
    forget_other_samples(watched(params, tmp_path, Validation(10, 0)))
    assert not losses.exists()
    losses.write_text("of all\n", encoding="utf-8")
    forget_other_samples(watched(params, tmp_path, asked))
    assert losses.exists() == is_kept


@pytest.mark.parametrize(("measured_on", "is_kept"), [("0", True), ("50", False), ("", False)])
def test_losses_that_another_home_has_measured_are_kept_if_they_are_of_the_same_samples(
    measured_on: str, is_kept: bool, setting: Setting, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path}/storage")
    storage = shared_storage()
    assert storage
    there, job = tmp_path / "there", watched(params, tmp_path / "run", Validation(2, 0))
    save_checkpoint(there / "checkpoints", TrainState(2, 2, {}, {}, {}))
    append(there / VALIDATION_FILE, {"step": 2, "of": 6, "epoch": 1, "validation_loss": 1.0})
    if measured_on:
        write_text(there / SAMPLES_FILE, measured_on)
    publish(storage, "run", there, state_files, Digests())
    found: list[bool] = []

    class Settling(Written):
        def run(self, job: Job) -> Iterator[None]:
            recall(job)  # as a group does before its workers start
            found.append((job.folder / VALIDATION_FILE).exists())
            yield from ()

    for _ in trial.train(job, setting, Settling()):  # pyright: ignore[reportArgumentType]
        break
    assert found == [is_kept]


class Written:
    """A group that measures at 2, 4 and 6 of 6 steps and fails after `fails_after`. `left`: how many runs were left."""

    def __init__(self, fails_after: int = 6) -> None:
        self.fails_after, self.left = fails_after, 0

    def run(self, job: Job) -> Iterator[None]:
        try:
            for step in (2, 4, 6):
                if step > self.fails_after:
                    raise UserError("the loss is nan")
                line = {"step": step, "of": 6, "epoch": step / 6, "validation_loss": 1 / step}
                append(job.folder / VALIDATION_FILE, {**line, "adapter_parameters": 8})
                yield
        except GeneratorExit:
            self.left += 1
            raise


@pytest.fixture
def setting(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    job = watched(params, tmp_path / "run", Validation(2, 0))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trial, "job_of", lambda params, setting, group: job)
    return Setting("search-1", str(tmp_path), params.model_dump(), [])


def trainable(setting: Setting, group: Written) -> PointTrainable:
    one = PointTrainable.__new__(PointTrainable)  # its own beginning starts Ray's workers
    one._setting, one._group = setting, group  # pyright: ignore[reportAttributeAccessIssue]
    one._begin({})
    return one


def test_trial_pauses_at_each_validation_and_says_which_is_the_last(setting: Setting) -> None:
    one = trainable(setting, Written())
    steps = [one.step() for _ in range(3)]
    assert [result["step"] for result in steps] == [2, 4, 6]
    assert [result.get("done", False) for result in steps] == [False, False, True]
    assert [result[RUNG] for result in steps] == pytest.approx([1 / 3, 2 / 3, 1])


def test_stopped_trial_is_left_where_it_is_and_the_next_one_begins(setting: Setting) -> None:
    group = Written()
    one = trainable(setting, group)
    assert one.step()["step"] == 2
    assert one.reset_config({})
    assert group.left == 1
    (Path("run") / VALIDATION_FILE).unlink()
    assert one.step()["step"] == 2


def test_failed_trial_is_a_result_that_keeps_no_place_on_the_rungs(setting: Setting) -> None:
    one = trainable(setting, Written(fails_after=2))
    one.step()
    last = one.step()
    assert (last["failed"], last[METRIC], last["done"], last["step"]) == ("the loss is nan", math.inf, True, 2)
    assert RUNG not in last
