"""Training runs in MLflow, sent from the run's folder: what cannot be sent now waits there on disk."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.files import read_json, write_json
from components.locks import lock
from components.tracking import store
from components.tracking.origin import origin

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRICS_FILE, TIMINGS_FILE, VALIDATION_FILE = "metrics.jsonl", "timings.jsonl", "validation.jsonl"
# One for each finished run of MLflow's: what it is, and the stores that have all of it. A search's trial and the stage
# of the same settings share a folder.
RECORD_FILES = "tracked-*.json"
WAITING_FILES = "waiting-*.json"  # beside it while the store that is named now has not had it
STEP, VALIDATION_LOSS = "step", "validation_loss"
RUN_TAG, DESCRIBED_TAG = "lea.run", "lea.described"
BATCH = 900  # MLflow takes 1000 entities a call
_reported: set[Path] = set()  # folders of runs whose store was reported away, and has not answered since


@dataclass(frozen=True)
class RunRecord:
    """A training run as tracking sees it.

    `folder` holds metrics.jsonl: {"step": 40, "loss": 1.2, ...}, timings.jsonl (if any) with the same steps, and
    validation.jsonl (if any) with some of them.
    """

    digest: str
    name: str
    params: Mapping[str, Any]  # flat: by dotted key
    data: Mapping[str, str]  # source -> digest of its manifest
    folder: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: str | None = None  # digest of the run that this one is a part of
    status: str = "FINISHED"  # of a finished run: FINISHED, KILLED or FAILED
    costs: Mapping[str, float] = field(default_factory=dict)  # of a finished run


def sync_training(record: RunRecord, through: int | None = None, finished: bool = False) -> bool:
    """Send what the store has not had yet: the run itself, then metrics up to step `through`.

    `through` is the last step that a checkpoint covers, so that a resumed run never contradicts
    what was sent; None means all. Call it as often as you like: the store says what it has. Returns False when it is
    away, after one line on stderr the first time; the next call sends the rest. Training goes on in any case.
    """
    try:
        with store.answering(store.tracking_uri()):
            client = store.connect()
            _send(client, record, through, finished)
            if finished:
                _keep(record, store.identity(client))
        _own(WAITING_FILES, record).unlink(missing_ok=True)
        _reported.discard(record.folder)
        return True
    except Exception as error:  # whatever it is: a run of hours must not end because of its log
        line = store.first_line(error, 300)
        if record.folder not in _reported:
            _reported.add(record.folder)
            print(f"tracking: {line} (metrics wait in {record.folder} and are sent later)", file=sys.stderr, flush=True)
        if finished:
            _keep(record, None)
            write_json(_own(WAITING_FILES, record), {"digest": record.digest, "name": record.name})
        return False


def waiting(folder: Path) -> list[str]:
    """What the store has not had of the runs in `folder`, by their digests."""
    first, last = WAITING_FILES.split("*")
    return sorted(path.name.removeprefix(first).removesuffix(last) for path in folder.glob(WAITING_FILES))


def _own(files: str, record: RunRecord) -> Path:
    return record.folder / files.replace("*", record.digest.replace("/", "_"))


def send_missing(folder: Path) -> None:
    """Send the finished runs under `folder` that this store has not had: it was away, or is another than before."""
    files = sorted(folder.glob(f"*/{RECORD_FILES}"))
    if not files:
        return
    with store.answering(store.tracking_uri()):
        present = store.identity(store.connect())
    for file in files:
        described, sent = _tracked(file)
        if present not in sent:
            sync_training(RunRecord(**described, folder=file.parent), finished=True)


def _keep(record: RunRecord, sent_to: str | None) -> None:
    """Write down a finished run beside its metrics, so that any store can have it later. None: none has it as it is."""
    file = _own(RECORD_FILES, record)
    described = json.loads(json.dumps({name: value for name, value in asdict(record).items() if name != "folder"}))
    try:
        known, had = _tracked(file)
    except UserError:  # missing, or not whole: written anew
        known, had = {}, set[str]()
    sent = {sent_to} | (had if known == described else set()) if sent_to else set()
    write_json(file, {**described, "sent": sorted(sent)})


def _tracked(file: Path) -> tuple[dict[str, Any], set[str]]:
    """What a finished run is, and the stores that have it."""
    remedy = f"remove it; the metrics of {file.parent.name} are then not sent to another store"
    described = read_json(file, remedy, [one.name for one in fields(RunRecord) if one.name != "folder"])
    sent = described.pop("sent", None)
    forms = {"params": dict, "data": dict, "tags": dict, "costs": dict, "digest": str, "name": str, "status": str}
    sound = all(isinstance(described[name], form) for name, form in forms.items())
    if not sound or len(described) != len(fields(RunRecord)) - 1 or not isinstance(sent, list):
        raise UserError(f"{file} is not what a run writes; {remedy}")
    return described, {one for one in sent if isinstance(one, str)}


def send_report(digest: str, files: Sequence[Path]) -> bool:
    """Keep a report with the training run that it tells of. Returns False, after one line, when the store is away."""
    try:
        with store.answering(store.tracking_uri()):
            client = store.connect()
            run = find_or_create_run(client, digest, digest.partition("-")[0])
            for file in files:
                client.log_artifact(run.info.run_id, str(file), "report")
        return True
    except UserError as error:
        print(f"tracking: {error} (the report stays in {files[0].parent})", file=sys.stderr, flush=True)
        return False


def _send(client: MlflowClient, record: RunRecord, through: int | None, finished: bool) -> None:
    run = find_or_create_run(client, record.digest, record.name)
    run_id = run.info.run_id
    if DESCRIBED_TAG not in run.data.tags:
        _describe(client, run_id, record)
    had = int(run.data.metrics.get(STEP, -1))
    for batch in _batches(record.folder, had, through, run.info.start_time):
        client.log_batch(run_id, metrics=batch)
    if finished and run.info.status != record.status:
        for key, value in record.costs.items():
            client.log_metric(run_id, key, value)
        for key, value in record.tags.items():
            client.set_tag(run_id, key, value)
        client.set_terminated(run_id, record.status)
    elif not finished and run.info.status != "RUNNING":
        client.update_run(run_id, status="RUNNING")


def find_or_create_run(client: MlflowClient, run_digest: str, name: str) -> Run:
    """The one run that carries `run_digest`: the oldest, should two homes have made one at the same time."""
    experiment = store.experiment_id(client)
    with lock("runs"):
        found = _runs(client, experiment, run_digest)
        if found:
            return found[0]
        made = client.create_run(experiment, run_name=name, tags={RUN_TAG: run_digest, **origin()})
        first = next(iter(_runs(client, experiment, run_digest)), made)
        if first.info.run_id != made.info.run_id:  # another home was quicker
            _remove(client, made.info.run_id)
        return first


def _remove(client: MlflowClient, run_id: str) -> None:
    """Delete a run that nothing was sent to. Where a server's user may not delete, it stays as it is, unused."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise


def _runs(client: MlflowClient, experiment: str, run_digest: str) -> list[Run]:
    found = client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{run_digest}'")
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))


def _describe(client: MlflowClient, run_id: str, record: RunRecord) -> None:
    from mlflow.entities import Param, RunTag

    params = [Param(key, str(value)) for key, value in sorted(record.params.items())]
    for start in range(0, len(params), 100):
        client.log_batch(run_id, params=params[start : start + 100])
    tags = dict(record.tags) | {f"lea.data.{source}": value for source, value in record.data.items()}
    if record.parent:
        tags["mlflow.parentRunId"] = find_or_create_run(client, record.parent, "tune").info.run_id
    log_datasets(client, run_id, record.data, "training")
    tags[DESCRIBED_TAG] = "yes"  # last, so that a description that broke off is made again
    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def log_datasets(client: MlflowClient, run_id: str, data: Mapping[str, str], context: str) -> None:
    """Prepared sources as dataset inputs under our own digests (MLflow keeps 36 characters of them)."""
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

    inputs = []
    for source, value in sorted(data.items()):
        where = json.dumps({"uri": f"data/prepared/{source}"})
        dataset = Dataset(name=source, digest=value[:36], source_type="local", source=where)
        inputs.append(DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, context)]))
    if inputs:
        client.log_inputs(run_id, inputs)


def _batches(folder: Path, after: int, through: int | None, start_ms: int) -> Iterator[list[Any]]:
    """Whole steps, in batches that MLflow takes. `step` is sent as a metric too: the store's record of what it has."""
    from mlflow.entities import Metric

    took = {line[STEP]: line for line in _lines(folder / TIMINGS_FILE)}
    held_out = {line[STEP]: line[VALIDATION_LOSS] for line in _lines(folder / VALIDATION_FILE)}
    batch: list[Metric] = []
    for line in _lines(folder / METRICS_FILE):
        step = int(line[STEP])
        if step <= after or (through is not None and step > through):
            continue
        values = {**took.get(step, {}), **line}
        if step in held_out:
            values[VALIDATION_LOSS] = held_out[step]
        when = int(values.pop("time") * 1000) if "time" in values else start_ms + step
        metrics = [Metric(key, float(value), when, step) for key, value in values.items() if _is_number(value)]
        if batch and len(batch) + len(metrics) > BATCH:
            yield batch
            batch = []
        batch += metrics
    if batch:
        yield batch


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            if not line.endswith("\n"):  # being written
                return
            yield json.loads(line)
