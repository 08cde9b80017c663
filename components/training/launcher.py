"""Puts the training loop on Ray Train workers, shows how far it is, and reports failures in one line."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.cluster import start_ray, worker_environment
from components.data.storage import is_url
from components.errors import UserError
from components.model.stored import REFERENCE_FILE
from components.nodes import check_nodes, is_remote, wait_for_room
from components.params import Training
from components.progress import Bar
from components.shared_storage import shared_storage
from components.training.checkpoint import CHECKPOINTS, latest_step
from components.training.job import Job
from components.training.journal import METRICS_FILE, SKIPPED_FILE, read_journal
from components.training.remote import Mirror, Remote, bring, held
from components.training.worker import forget_mistake, message, mistake_of, work
from components.workspace import MANIFEST

# Ray Train's background services that one run on a few workers does not need; each can be set otherwise outside.
QUICK_START = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}
ELASTIC = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20"}  # how long workers that do not come are waited for
RESIZE_EVERY_S = 30.0  # how often an elastic run looks for nodes that have come
WATCH_EVERY_S = 0.5
CODE = ("components.training.loop",)  # what workers run: its closure is the same on all nodes
RAY_LOGS = "logs: /tmp/ray/session_latest/logs"


class WorkersFailed(UserError):
    """Workers ended in a way that a new start may mend."""


def launch(job: Job, on_checkpoint: Callable[[int], object] = lambda step: None) -> None:
    """Start Ray, run a job to its end, and leave."""
    with ray_session(job.training):
        fit(job, on_checkpoint)


@contextmanager
def ray_session(training: Training) -> Iterator[None]:
    """Ray for one run after the other: a local cluster, or the one that RAY_ADDRESS names."""
    before_ray(training)
    import ray

    start_ray(training.workers, worker_environment(training.use_gpu, training.threads_per_worker))
    try:
        yield
    except SystemExit:  # the way out of Ray's own handler of Ctrl-C
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ray.shutdown()


def before_ray(training: Training) -> None:
    """Environment variables that Ray Train reads when it is imported."""
    elastic = training.worker_counts[0] < training.workers
    for name, value in (QUICK_START | ELASTIC if elastic else QUICK_START).items():
        os.environ.setdefault(name, value)


def fit(job: Job, on_checkpoint: Callable[[int], object] = lambda step: None) -> None:
    """Run a job to its end on Ray Train workers, in the Ray that is up.

    A worker group that is lost starts again from the newest checkpoint, `max_failures` times. What cannot be
    mended by starting again (a UserError in a worker) ends the run with that line: the worker leaves it in the
    run's folder, where a group that Ray starts again reads it and exits. `on_checkpoint` is called here, not in a
    worker, with the steps that the newest checkpoint covers. With LEA_STORAGE inputs and
    state of the run lie there.
    """
    before_ray(job.training)
    job.folder.mkdir(parents=True, exist_ok=True)
    scratch = job.folder / "ray"  # Ray's own run state; ours is in checkpoints
    shutil.rmtree(scratch, ignore_errors=True)
    forget_mistake(job)
    if is_remote():
        check_cluster_for(job)
    try:
        with held(job) as remote:
            _fit(job, on_checkpoint, remote, scratch)
            if remote:
                bring(job, remote.storage)
            mistake = mistake_of(job, remote)
            if mistake is not None:
                raise UserError(mistake)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _fit(job: Job, on_checkpoint: Callable[[int], object], remote: Remote | None, scratch: Path) -> None:
    """Run Ray's trainer; returns too where a worker has left a mistake."""
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import TrainingFailedError

    trainer = _trainer(job, remote, scratch)
    try:
        with Watcher(job, on_checkpoint, remote):
            trainer.fit()
    except TrainingFailedError as error:
        if mistake_of(job, remote) is None:
            raise _explained(error, job) from error
    except RayActorError as error:
        raise UserError(f"{job.stage}: Ray's controller was lost; run the stage again to go on ({RAY_LOGS})") from error


def _trainer(job: Job, remote: Remote | None, scratch: Path) -> Any:
    """Ray's trainer for a job; Ray is up."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from components.training.rendezvous import process_group

    training = job.training
    fewest = training.worker_counts[0]
    return TorchTrainer(
        work,
        train_loop_config=message(job, remote),
        torch_config=process_group("nccl" if training.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(fewest, training.workers) if fewest < training.workers else training.workers,
            use_gpu=training.use_gpu,
            elastic_resize_monitor_interval_s=RESIZE_EVERY_S,
        ),
        run_config=RunConfig(
            name=f"{job.stage}-{uuid.uuid4().hex[:8]}",
            storage_path=str(scratch),
            failure_config=FailureConfig(max_failures=training.max_failures),
        ),
    )


def check_cluster_for(job: Job) -> None:
    """UserError where the cluster of RAY_ADDRESS is not fit for a job; waits where it has no room at the moment."""
    training = job.training
    least = training.worker_counts[0]
    setting = "training.min_workers" if least < training.workers else "training.workers"
    wait_for_room(least, training.use_gpu, setting)
    files = [job.assignments, job.base / REFERENCE_FILE]
    if not is_url(job.prepared):
        files += [Path(job.prepared, source, MANIFEST) for source in job.sources]
    check_nodes(files, shared_storage(), training.use_gpu, CODE)


class Watcher:
    """Follows a run's folder while workers write it: shows step, loss and time left, reports new checkpoints.

    Steps that fall say that a worker was lost, or came: Ray Train starts all of them again.
    """

    def __init__(self, job: Job, on_checkpoint: Callable[[int], object], remote: Remote | None = None) -> None:
        self._folder, self._stage, self._on_checkpoint = job.folder, job.stage, on_checkpoint
        self._covered = latest_step(job.folder / CHECKPOINTS)
        self._skipped = len(read_journal(job.folder / SKIPPED_FILE))
        self._before = _last_step(job.folder)  # where an earlier call was, until the workers cut the journal
        self._shown = 0
        self._mirror = Mirror(job, remote) if remote else None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        with Bar(self._stage, None) as bar:
            while not self._over.wait(WATCH_EVERY_S):
                self._look(bar)
            self._look(bar, last=True)

    def _look(self, bar: Bar, last: bool = False) -> None:
        there = self._mirror.covered(at_once=last) if self._mirror else 0
        lines = read_journal(self._folder / METRICS_FILE)
        if lines:
            step = lines[-1]
            if step["step"] < self._shown:
                start = latest_step(self._folder / CHECKPOINTS)
                words = f"{self._stage}: its workers have started again, from step {start} (they were at {self._shown})"
                print(words, file=sys.stderr, flush=True)
            self._shown = step["step"] if step["step"] != self._before else 0
            bar.total = step["of"]
            bar.at(step["step"], "skipped" if step["skipped"] else f"loss {step['loss']:.3f}")
        skipped = read_journal(self._folder / SKIPPED_FILE)
        for line in skipped[self._skipped :]:
            words = f"{self._stage}: step {line['step']} skipped: {line['why']} (samples {line['samples']})"
            print(words, file=sys.stderr, flush=True)
        self._skipped = len(skipped)
        covered = max(there, latest_step(self._folder / CHECKPOINTS))
        if covered > self._covered:
            self._covered = covered
            self._on_checkpoint(covered)


def _last_step(folder: Path) -> int:
    lines = read_journal(folder / METRICS_FILE)
    return lines[-1]["step"] if lines else 0


def _explained(error: Exception, job: Job) -> Exception:
    """The user's mistake behind a failed run, or the first worker's own error in one line."""
    failures = getattr(error, "worker_failures", None) or {}
    if failures:
        return explained(list(failures.values()), job)
    lines = [line for cause in _chain(error) for line in str(cause).strip().splitlines() if not line.endswith(":")]
    return WorkersFailed(f"{job.stage}: {lines[0] if lines else type(error).__name__} ({RAY_LOGS})")


def explained(failures: Sequence[BaseException], job: Job) -> UserError:
    """What some workers' errors come to, in one line."""
    for failure in failures:
        for cause in _chain(failure):
            if isinstance(cause, UserError):
                return UserError(str(cause))
            if isinstance(cause, OSError) and cause.errno == 28:
                return UserError(f"no space left for checkpoints in {job.folder}; free some and run the stage again")
    root = _chain(failures[0])[-1]
    words = str(root).strip().splitlines()
    return WorkersFailed(
        f"{job.stage}: a worker failed: {type(root).__name__}: {words[-1] if words else ''} "
        f"(what was saved is kept, run the stage again to go on; {RAY_LOGS})"
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = getattr(error, "cause", None) or error.__cause__
    return found
