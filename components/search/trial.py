"""One trial of a search: a point of the space, trained by the loop that trains every run.

It runs inside Ray Tune, as a process that holds almost no CPU; the work is done by a warm group of workers beside it,
which the process keeps for the trials that come after. Between two reports a trial waits for Tune's word to go on.
The run lies under its own digest as every run does: a trial that is started again goes on from its checkpoint, and
the best trial, applied as params, finds its training done.
"""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import write_text
from components.locks import lock
from components.params import Params, validate_params
from components.search.space import Dimension, apply, decode
from components.search.upkeep import claim
from components.training.checkpoint import CHECKPOINTS, latest_step
from components.training.job import RESULT_SETTINGS, Job, Validation
from components.training.journal import TIMINGS_FILE, VALIDATION_FILE, read_journal
from components.training.parts import parts_of
from components.training.remote import recall
from components.training.run_files import SAMPLES_FILE
from components.training.stage import make_job
from components.training.warm import Group
from components.workspace import PRETRAIN

METRIC, RUNG = "validation_loss", "rung"
Result = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What all trials share, in a form that reaches any node."""

    search: str  # its name
    root: str  # the repository, where every node sees it
    tree: dict[str, Any]  # params.yaml, validated
    space: Sequence[Dimension]

    @property
    def default(self) -> Params:
        """The present settings, run as a trial is."""
        workers = self.tree["tune"]["workers_per_trial"]
        training = {**self.tree["training"], "min_workers": None, "workers": workers}
        return validate_params({**self.tree, "training": training}, f"params.yaml: tune.workers_per_trial {workers}")


def reports(config: Mapping[str, Any], setting: Setting, group: Group) -> Generator[Result, None, None]:
    """Train a point of the space and give each validation; what ends it early is given, not raised.

    A failed trial is a result like any other: Ray starts a trial again only where its process was lost. Closed
    before its end, the trial is left where it is.
    """
    os.chdir(setting.root)
    known: Result = {}  # of what failed: the last figures, but no place on the rungs
    try:
        params = apply(setting.default, decode(config, setting.space))
        job = job_of(params, setting, group)
        known["run"] = job.folder.name
        with lock(job.folder.name):  # the same point may be drawn twice
            for line in train(job, setting, group):
                known.update({name: value for name, value in line.items() if name != RUNG})
                yield line
    except UserError as mistake:
        yield {**known, METRIC: math.inf, "failed": str(mistake)}


def job_of(params: Params, setting: Setting, group: Group) -> Job:
    """Stage 2 of a trial. All start from models/pretrain, but those that change stage 1: they need their own."""
    start = PRETRAIN if stage_1(params) == stage_1(setting.default) else own_start(params, setting, group)
    return stage_2(params, start)


def stage_2(params: Params, start: Path) -> Job:
    """The run of stage `finetune` with these settings, watched."""
    adapter = params.adapter if params.finetune.language_model == "frozen" else None
    job = make_job("finetune", params, params.finetune, adapter, start)
    return replace(job, validation=Validation(params.tune.report_every_steps, params.tune.validation_samples))


def stage_1(params: Params) -> dict[str, Any]:
    """The settings that stage 1 depends on."""
    tree = params.model_dump()
    training = {name: tree["training"][name] for name in RESULT_SETTINGS}
    return {**{name: tree[name] for name in ("pretrain", "vce", "connector")}, "training": training}


def own_start(params: Params, setting: Setting, group: Group) -> Path:
    """Parts of stage 1 with these settings, trained here unless another trial has done so."""
    job = make_job("pretrain", params, params.pretrain, None, None)
    with lock(job.folder.name):
        claim(job.folder, setting.search)
        if parts_of(job) is None:
            for _ in group.run(job):
                pass
    parts = parts_of(job)
    assert parts is not None, "a finished run has parts"
    return parts


def train(job: Job, setting: Setting, group: Group) -> Generator[Result, None, None]:
    """Train a run unless that is done, and give its validations; the last one when its checkpoint is there."""
    claim(job.folder, setting.search)
    recall(job)  # first: what another home has trained and measured is of its own number of samples
    forget_other_samples(job)
    given = 0
    if not is_done(job):
        with closing(group.run(job)) as steps:
            for _ in steps:
                for line in read_journal(job.folder / VALIDATION_FILE):
                    if given < line["step"] < line["of"]:
                        given = line["step"]
                        yield result(job, line)
    for line in read_journal(job.folder / VALIDATION_FILE):
        if line["step"] > given:
            yield result(job, line)


def forget_other_samples(job: Job) -> None:
    """Drop what was measured on other samples (`tune.validation_samples`); the end is then measured again."""
    assert job.validation
    mark, asked = job.folder / SAMPLES_FILE, str(job.validation.max_samples)
    if not mark.exists() or mark.read_text(encoding="utf-8") != asked:
        (job.folder / VALIDATION_FILE).unlink(missing_ok=True)
        write_text(mark, asked)


def is_done(job: Job) -> bool:
    """Trained to the end, checkpointed and measured there."""
    lines = read_journal(job.folder / VALIDATION_FILE)
    last = lines[-1] if lines else {"step": 0, "of": -1}
    return last["step"] == last["of"] == latest_step(job.folder / CHECKPOINTS) and parts_of(job) is not None


def result(job: Job, line: Mapping[str, Any]) -> Result:
    """What a trial reports to Ray Tune: the loss, how far it is, what it costs, and where it lies.

    RUNG, by which trials are compared on the way, is left out where the run was not measured from the first: it
    was trained before, unwatched, and would be compared further on than the others.
    """
    lines, took = read_journal(job.folder / VALIDATION_FILE), read_journal(job.folder / TIMINGS_FILE)
    parameters = {key: value for key, value in line.items() if key.endswith("_parameters")}
    assert job.validation
    whole = lines[0]["step"] == min(job.validation.every_steps, line["of"])
    return {
        METRIC: line[METRIC],
        "step": line["step"],
        "of": line["of"],
        "epoch": line["epoch"],
        **({RUNG: line["epoch"]} if whole else {}),
        **parameters,
        "trainable_parameters": sum(parameters.values()),
        "step_seconds": statistics.median(entry["seconds"] for entry in took) if took else 0.0,
        "train_seconds": sum(entry["seconds"] for entry in took),
        "run": job.folder.name,
        "start": job.start.parent.name if job.start and job.start.name == "parts" else "",
    }


def per_worker(params: Params) -> dict[str, float]:
    """Resources of a worker."""
    return {"CPU": 1.0, "GPU": params.tune.gpu_per_worker} if params.training.use_gpu else {"CPU": 1.0}
