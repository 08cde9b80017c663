"""Continuous batching: one thread per model, whose rows begin and end at any time.

    requests --> waiting --> read: image (once, kept), question --> rows --> one token for each --> ...
                                                                     ^           |
                                                                     +-----------+  ended rows leave, new ones join

The reading and the growing are those of `components.evaluation.inference.answering`; so an answer is what
`lea predict` gives, up to rounding, whoever is in the batch.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import torch

from components.errors import UserError
from components.evaluation.inference.answering import SHRINK_AT, read_on, stop_tokens
from components.evaluation.inference.cache import Prefilled
from components.model.connector import picture
from components.serving.gather import can_gather, gather
from components.serving.image_cache import ImageCache
from components.serving.job import Job

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant
    from components.serving.limits import Limits

ADMIT_AT_ONCE = 8  # new rows are read between two tokens of those that grow: more would let these wait


class Engine:
    """Answers jobs until it is closed; `rows` and `waiting` may be read at any time."""

    def __init__(self, assistant: Assistant, limits: Limits) -> None:
        if not can_gather(assistant.model.config):
            raise UserError(
                "lea serve: this language model keeps a sliding window of what it has read, which cannot be served in "
                "batches that change; use: mlflow models serve"
            )
        self.assistant, self.limits = assistant, limits
        self.images = ImageCache(limits.image_cache_bytes)
        self.rows: list[Job] = []  # of the batch; some have ended
        self.waiting: deque[Job] = deque()
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._read: Prefilled | None = None
        self._stops = stop_tokens(assistant)
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        with self._changed:
            assert not self._closing, "an engine that drains gets no new job"
            self.waiting.append(job)
            self._changed.notify()

    def call(self, function: Callable[[], Any]) -> Future[Any]:
        """Run `function` between two tokens, when nothing else uses the model."""
        future: Future[Any] = Future()
        with self._changed:
            self._calls.append((future, function))
            self._changed.notify()
        return future

    def close(self) -> None:
        """End the thread once all jobs have ended."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def join(self, timeout: float | None = None) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        with torch.inference_mode():
            while self._wait():
                self._answer_calls()
                self._admit()
                if self._read is not None:
                    self._guarded(self._grow, self.rows)

    def _wait(self) -> bool:
        """Until there is work; False when there will be none."""
        with self._changed:
            while not (self.waiting or self._calls or self._read is not None):
                if self._closing:
                    return False
                self._changed.wait()
            return True

    def _answer_calls(self) -> None:
        while self._calls:
            future, function = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(function())
            except Exception as error:  # it is the caller's, who gets it from the future
                future.set_exception(error)

    def _admit(self) -> None:
        """Read waiting jobs and let them join the rows."""
        going = [row for row, job in enumerate(self.rows) if job.is_going]
        jobs: list[Job] = []
        while self.waiting and len(jobs) < min(ADMIT_AT_ONCE, self.limits.rows - len(going)):
            job = self.waiting.popleft()
            if job.check():
                jobs.append(job)
        if not jobs:
            return
        self._guarded(lambda: self._join(going, jobs), jobs)

    def _join(self, going: list[int], jobs: list[Job]) -> None:
        taken = [(self._read, going)] if self._read is not None and going else []
        fresh = self._read_each(jobs)
        if fresh:
            read, jobs = fresh
            self._read = gather([*taken, (read, range(len(jobs)))], self.assistant.model.config)
            self.rows = [self.rows[row] for row in going] + jobs

    def _read_each(self, jobs: list[Job]) -> tuple[Prefilled, list[Job]] | None:
        """What the model reads of these jobs; where that fails, of those by whom it does not."""
        try:
            return self._read_jobs(jobs), jobs
        except Exception as error:  # too little memory, an image that cannot be decoded: that job's alone
            if len(jobs) == 1:
                jobs[0].end(failure=_line(error))
                return None
        parts = [part for job in jobs if (part := self._read_each([job]))]
        if not parts:
            return None
        read = gather([(part, [0]) for part, _ in parts], self.assistant.model.config)
        return read, [job for _, (job,) in parts]

    def _read_jobs(self, jobs: list[Job]) -> Prefilled:
        """Each job's prompt: rows in the order of the jobs."""
        model, config = self.assistant.model, self.assistant.model.config
        shown, text = ([n for n, job in enumerate(jobs) if (job.image is not None) is has] for has in (True, False))
        parts: list[tuple[Prefilled, Sequence[int]]] = []
        if shown:
            images = self._read_images([jobs[n] for n in shown])
            begun = gather([(images[jobs[n].key], [0]) for n in shown], config)
            rest = [jobs[n].prompt[jobs[n].shared :] for n in shown]
            parts.append((read_on(model, rest, begun), range(len(shown))))
        if text:
            parts.append((read_on(model, [jobs[n].prompt for n in text], None), range(len(text))))
        order = [*shown, *text]
        if len(parts) == 1 and order == sorted(order):
            return parts[0][0]
        return gather([(gather(parts, config), [order.index(n) for n in range(len(jobs))])], config)

    def _read_images(self, jobs: list[Job]) -> dict[Hashable, Prefilled]:
        """What is read with each image, from the cache or now, all new ones in one batch."""
        model, config = self.assistant.model, self.assistant.model.config
        by_key = {job.key: job for job in jobs}
        found = {key: read for key in by_key if (read := self.images.get(key)) is not None}
        new = [job for key, job in by_key.items() if key not in found]
        if new:
            pixels = torch.cat([job.pixels() for job in new if job.pixels]).to(model.device, model.dtype)
            seen = picture(model, pixels, torch.ones(len(new), dtype=torch.bool, device=model.device))
            read = read_on(model, [job.prompt[: job.shared] for job in new], None, seen)
            for row, job in enumerate(new):
                found[job.key] = gather([(read, [row])], config)
                self.images.put(job.key, found[job.key])
        return found

    def _grow(self) -> None:
        """The likeliest next token of each row; rows that have ended leave when many have."""
        assert self._read is not None
        tokens = self._read.logits.argmax(dim=-1).tolist()
        now = time.monotonic()
        for job, token in zip(self.rows, tokens, strict=True):
            if job.is_going and job.check():
                self._take(job, token, now)
        going = [row for row, job in enumerate(self.rows) if job.is_going]
        if not going:
            self.rows, self._read = [], None
            return
        if len(going) <= SHRINK_AT * len(self.rows):
            self._read = gather([(self._read, going)], self.assistant.model.config)
            self.rows, tokens = [self.rows[row] for row in going], [tokens[row] for row in going]
        self._read = read_on(self.assistant.model, [[token] for token in tokens], self._read)

    def _take(self, job: Job, token: int, now: float) -> None:
        job.began = job.began or now
        if token in self._stops:
            job.end(finish="stop")
            return
        job.tokens.append(token)
        if job.stream:
            job.notify(token)
        if len(job.tokens) >= job.max_new_tokens:
            job.end(finish="length")

    def _guarded(self, work: Callable[[], None], jobs: Sequence[Job]) -> None:
        """A failure ends the jobs that it concerns, not the engine."""
        try:
            work()
        except Exception as error:  # too little memory for the next token, say
            for job in jobs:
                if job.is_going:
                    job.end(failure=_line(error))
            if jobs is self.rows:
                self.rows, self._read = [], None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
