"""A warm group of workers: processes that train one run after the other, each as it would go alone.

A run alone starts processes, imports, reads the base and collates its batches; a search or a table of the tiny profile
spends more time on these than on steps. A warm group pays once (see kept.py). A run pauses at each validation until
it is called on; whoever has seen enough leaves it there. A group in which anything went wrong is not used again.
"""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from components.cluster import is_on_loopback
from components.errors import UserError
from components.nodes import is_remote
from components.shared_storage import StorageAway
from components.training.job import Job
from components.training.launcher import RAY_LOGS, Watcher, WorkersFailed, check_cluster_for, explained
from components.training.remote import Mirror, Publisher, Remote, bring, held, leave, localized, settle
from components.training.worker import errors_that_travel, message, opened

KEPT_BYTES = 500_000_000  # of batches and features, in each worker


class Worker:
    """One process of a group; a Ray actor."""

    def __init__(self) -> None:
        from components.training.kept import Kept

        self._kept = Kept(KEPT_BYTES)
        self._rank = 0
        self._run: Generator[None, None, None] | None = None
        self._job: Job | None = None  # as this node sees it
        self._publisher: Publisher | None = None

    def process_id(self) -> int:
        return os.getpid()

    def open_place(self) -> str:
        from components.training.rendezvous import open_place

        return open_place()

    def join(self, rank: int, workers: int, init_method: str, use_gpu: bool) -> None:
        from components.training.rendezvous import join

        self._rank = rank
        join(rank, workers, init_method, use_gpu)

    def begin(self, received: dict[str, Any]) -> None:
        from components.training.loop import forget_memory_peak, training

        forget_memory_peak()
        with errors_that_travel():
            job, remote = opened(received)
            self._job = localized(job, remote) if remote else job
            self._publisher = Publisher(self._job, remote) if remote else None
            self._run = training(self._job, self._kept, self._publisher or (lambda saved: None))

    def advance(self) -> bool:
        """Train up to the next validation; False: the run has come to its end."""
        assert self._run is not None, "a run was begun"
        with errors_that_travel():
            goes_on = next(self._run, self) is None
            if goes_on and self._publisher and self._rank == 0:
                self._publisher(True)  # whoever is called on with the validation finds it in the storage
        return goes_on

    def leave(self) -> None:
        """End the run where it is, and free what was its own."""
        import torch

        if self._run is not None:
            self._run.close()
        if self._publisher and self._job:
            leave(self._job)
        self._run = self._job = self._publisher = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Group:
    """Workers that are started when a run needs them.

    resources: of a worker. placement: a placement group with a bundle for each worker, after one for the caller.
    """

    def __init__(self, resources: dict[str, float], placement: Any = None) -> None:
        self._resources, self._placement = resources, placement
        self._workers: list[Any] = []
        self._folder: Path | None = None

    def fit(self, job: Job, on_checkpoint: Callable[[int], object] = lambda step: None) -> None:
        """Run a job to its end; as `launcher.fit`."""
        job.folder.mkdir(parents=True, exist_ok=True)
        if is_remote() and not self._workers:
            check_cluster_for(job)
        with held(job) as remote, Watcher(job, on_checkpoint, remote):
            for _ in self._run(job, remote):
                pass

    def run(self, job: Job) -> Generator[None, None, None]:
        """Run a job, pausing after each validation; workers that are lost start again at the newest checkpoint.

        With LEA_STORAGE inputs and state of the run lie there, and its journals here at each pause.
        """
        job.folder.mkdir(parents=True, exist_ok=True)
        with held(job) as remote:
            yield from self._run(job, remote)

    def _run(self, job: Job, remote: Remote | None) -> Generator[None, None, None]:
        for failures in range(job.training.max_failures + 1):
            try:
                if remote and failures:
                    settle(job, remote)
                yield from self._run_once(job, remote)
                break
            except (WorkersFailed, StorageAway):
                if failures == job.training.max_failures:
                    raise
        if remote:
            bring(job, remote.storage)

    def close(self) -> None:
        """End the workers' processes."""
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def _run_once(self, job: Job, remote: Remote | None) -> Generator[None, None, None]:
        mirror = Mirror(job, remote) if remote else None
        is_whole = False
        try:
            if len(self._workers) != job.training.workers:
                self.close()
                self._start(job)
            self._all(job, "begin", message(job, remote))
            while self._all(job, "advance"):
                if mirror:
                    mirror.covered(at_once=True)
                is_whole = True  # while it pauses
                yield
                is_whole = False
            is_whole = True
        finally:
            if not (is_whole and leaves_nothing(job) and self._left(job)):
                self.close()

    def _left(self, job: Job) -> bool:
        """Let all workers leave a run; whether they could."""
        try:
            self._all(job, "leave")
        except UserError:
            return False
        return True

    def _start(self, job: Job) -> None:
        training, count = job.training, job.training.workers
        make: Any = ray.remote(Worker)
        for rank in range(count):
            options: dict[str, Any] = {"num_cpus": self._resources.get("CPU", 1)}
            options["num_gpus"] = self._resources.get("GPU", 0)
            if self._placement is not None:
                options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(self._placement, rank + 1)
            self._workers.append(make.options(**options).remote())
        if is_on_loopback():
            self._folder = Path(tempfile.mkdtemp(prefix="lea-group-"))
            place = f"file://{self._folder / 'store'}"
        else:
            place = ray.get(self._workers[0].open_place.remote())
        joining = [w.join.remote(rank, count, place, training.use_gpu) for rank, w in enumerate(self._workers)]
        self._collect(job, joining)

    def _all(self, job: Job, method: str, *arguments: Any) -> Any:
        """Call a method of all workers; what the first returns."""
        return self._collect(job, [getattr(worker, method).remote(*arguments) for worker in self._workers])

    def _collect(self, job: Job, calls: list[Any]) -> Any:
        """Results in the order in which they come: where one worker fails, others may wait for it for ever."""
        waiting = list(calls)
        try:
            while waiting:
                ready, waiting = ray.wait(waiting)
                ray.get(ready)
            return ray.get(calls[0])
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            raise (UserError(str(cause)) if isinstance(cause, UserError) else explained([cause], job)) from error
        except RayActorError as error:
            lost = f"{job.stage}: a worker was lost (what was saved is kept, run the stage again to go on; {RAY_LOGS})"
            raise WorkersFailed(lost) from error


def leaves_nothing(job: Job) -> bool:
    """Whether the process is after such a run as it was before: no ZeRO 3, which hooks modules; nothing compiled."""
    training = job.training
    return training.zero_stage < 3 and not training.compile_blocks and training.attention != "flex"
