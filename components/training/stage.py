"""A training stage from settings to parts: find the run, finish it, export what it learnt."""

from __future__ import annotations

import csv
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from components.batching.sampler import Plan, Samples, split_places
from components.data.shards import read_manifest
from components.digests import digest, file_digest
from components.errors import UserError
from components.files import fresh_folder, write_csv
from components.locks import lock
from components.model.stored import CONNECTOR_FILE, read_reference, read_settings
from components.params import Adapter, Finetune, Params, Pretrain
from components.params.trees import flatten
from components.tracking.runs import RunRecord, sync_training
from components.training.checkpoint import CHECKPOINTS, newest_intact
from components.training.job import Job, Validation, run_digest
from components.training.journal import METRICS_FILE, SKIPPED_FILE, TIMINGS_FILE, VALIDATION_FILE, damaged, read_journal
from components.training.launcher import launch
from components.training.parts import parts_of
from components.training.remote import recall
from components.workspace import ASSIGNMENTS, BASE, LOG, PREPARED, VALIDATION, home


def run_training(
    stage: str,
    params: Params,
    recipe: Pretrain | Finetune,
    adapter: Adapter | None,
    start: Path | None,
    out: Path | None,
    run_job: Callable[..., None] | None = None,
) -> Job:
    """Train a stage (or go on with it, or find it done) and write its parts to `out`, if given.

    run_job: `launcher.launch`, or `launcher.fit` where Ray is up already; the former by default.
    """
    job = make_job(stage, params, recipe, adapter, start)
    samples = Samples(job.prepared, job.assignments, recipe.sources, recipe.tasks, "train")
    plan = Plan(samples.starts, recipe.global_batch, recipe.epochs, params.seed)
    steps = plan.steps
    last = f"{plan.last_batch} sample{'' if plan.last_batch == 1 else 's'}"
    rest = "" if plan.last_batch == recipe.global_batch else f" (the last step of each epoch: {last})"
    size = f"{len(samples)} samples, {steps} steps of {recipe.global_batch}{rest}"
    record = RunRecord(job.folder.name, stage, flatten(job.settings()), job.sources, job.folder)
    with lock(job.folder.name):  # queued experiments may come to the same run at the same time
        recall(job)
        covered = newest_intact(job.folder / CHECKPOINTS)
        done = covered == steps and parts_of(job) is not None
        how = "already done" if done else f"going on after step {covered}" if covered else "starting"
        print(f"{stage}: {size}; {how} (run {job.folder.name})")
        if steps == 1 and recipe.warmup:  # the first step of a warm-up has the rate 0 (engine.cosine)
            print(
                f"{stage}: its one step is all warm-up, at learning rate 0, and nothing is learnt; set {stage}.warmup 0"
            )
        started = time.monotonic()
        if not done:
            (run_job or launch)(job, on_checkpoint=lambda step: sync_training(record, through=step))
        if out:
            export(job, out)
    skipped = len(read_journal(job.folder / SKIPPED_FILE))
    if skipped:
        print(f"{stage}: nothing was learnt from {skipped} of {steps} steps; see {job.folder / SKIPPED_FILE}")
    sync_training(record, finished=True)
    if covered < steps:
        whole = time.monotonic() - started
        outside = whole - sum(line["seconds"] for line in read_journal(job.folder / TIMINGS_FILE)[covered:])
        print(f"{stage}: {whole:.0f} s in all, {outside:.0f} of them outside steps (start, checkpoints, tracking)")
    return job


def make_job(
    stage: str,
    params: Params,
    recipe: Pretrain | Finetune,
    adapter: Adapter | None,
    start: Path | None,
    prepared: Path = PREPARED,
    assignments: Path = ASSIGNMENTS,
) -> Job:
    """Describe a run; its folder bears the digest of all that determines its result."""
    if not assignments.exists():
        raise UserError(f"{assignments} is missing; run: dvc repro splits")
    inputs = {
        "base": read_reference(BASE)["digest"],
        "start": _parts_digest(start) if start else "",
        "splits": digest({name: split_places(assignments, name, "train") for name in recipe.sources}),
    }
    sources = {name: read_manifest(prepared / name)["digest"] for name in recipe.sources}
    job = Job(
        stage=stage,
        seed=params.seed,
        recipe=recipe,
        vce=params.vce if params.vce.enabled else None,
        vlora=params.connector.chosen_vlora,
        adapter=adapter,
        training=params.training,
        base=BASE.resolve(),
        start=start.resolve() if start else None,
        prepared=_prepared_place(sources) if prepared == PREPARED else str(prepared.resolve()),
        assignments=assignments.resolve(),
        inputs=inputs,
        sources=sources,
        folder=Path(),
    )
    name = run_digest(job)
    return replace(job, folder=home() / "runs" / f"{stage}-{name[:16]}", validation=_validation(params, recipe))


def _validation(params: Params, recipe: Pretrain | Finetune) -> Validation | None:
    """How the stage measures its loss on held-out samples; None where that is switched off or none are held out."""
    training = params.training
    if not training.validate_every_steps:
        return None
    if not len(Samples(str(PREPARED), ASSIGNMENTS, recipe.sources, recipe.tasks, "validation")):
        return None
    return Validation(training.validate_every_steps, training.validation_samples)


def _prepared_place(sources: dict[str, str]) -> str:
    """Where workers read prepared data: the folder here, or the copy of it that LEA_PREPARED names."""
    place = os.environ.get("LEA_PREPARED", "").rstrip("/")
    if not place:
        return str(PREPARED.resolve())
    for name, records in sources.items():
        if read_manifest(f"{place}/{name}")["digest"] != records:
            raise UserError(f"LEA_PREPARED: {place}/{name} holds other data than {PREPARED / name}; copy it again")
    return place


def export(job: Job, out: Path) -> None:
    """Write connector, adapter, model.json, log.csv and validation.csv of a finished run to `out`."""
    parts = parts_of(job)
    assert parts is not None, "a finished run has parts"
    with fresh_folder(out) as folder:
        shutil.copytree(parts, folder, dirs_exist_ok=True)
        write_log(job.folder, folder / LOG)
        lines = [(line["step"], line["validation_loss"]) for line in read_journal(job.folder / VALIDATION_FILE)]
        write_csv(folder / VALIDATION, ("step", "validation_loss"), lines)


def write_log(run: Path, out: Path) -> None:
    """What each step learnt and took, as the CSV that `dvc plots` and the report draw."""
    learnt, took = read_journal(run / METRICS_FILE), read_journal(run / TIMINGS_FILE)
    if not learnt or [line["step"] for line in learnt] != [line["step"] for line in took]:
        raise damaged(run / TIMINGS_FILE, f"its steps are not those of {METRICS_FILE}")
    lines = [{**first, **second} for first, second in zip(learnt, took, strict=True)]
    if any(line.keys() != lines[0].keys() for line in lines):
        raise damaged(run / METRICS_FILE, "its lines do not have the same keys")
    with out.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _parts_digest(parts: Path) -> str:
    """What a run starts from: its weights and settings, not when or under which name they were made."""
    settings = {name: value for name, value in read_settings(parts).items() if name != "run"}
    return digest([settings, file_digest(parts / CONNECTOR_FILE)])
