"""Who trains the runs of the tables: one Ray and one warm group, started with the first run that needs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from components.params import Training
from components.training.job import Job
from components.training.launcher import fit, ray_session
from components.training.warm import Group

RunJob = Callable[[Job, Callable[[int], object]], None]


@contextmanager
def workers(training: Training) -> Iterator[RunJob]:
    """What `run_training` calls for each run. A group has a fixed size: runs whose workers may vary start their own."""
    group = Group({"CPU": 1, "GPU": int(training.use_gpu)})
    with ExitStack() as opened:

        def run_job(job: Job, on_checkpoint: Callable[[int], object]) -> None:
            import ray

            if not ray.is_initialized():
                opened.enter_context(ray_session(training))
                opened.callback(group.close)
            if training.worker_counts[0] < training.workers:
                fit(job, on_checkpoint)
            else:
                group.fit(job, on_checkpoint)

        yield run_job
