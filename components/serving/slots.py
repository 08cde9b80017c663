"""The models that a server answers with. Each follows its alias: the new version is loaded beside, then takes over.

version 1   answers ------------------ finishes what it has -- freed
version 2          loaded, warmed up - answers -------------------
                                     ^ no request waits for it, none is lost
"""

from __future__ import annotations

import copy
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from components.errors import UserError
from components.serving.engine import Engine
from components.serving.limits import Limits
from components.serving.loading import FORMS, URI, Loaded, find_version, load_version
from components.serving.prepare import make_job
from components.tracking.version_files import MODEL_TAG

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from components.serving.metrics import Metrics


RETRY_S = 60.0


class Running:
    """A loaded model with its engine, and how many requests use it."""

    def __init__(self, loaded: Loaded, limits: Limits) -> None:
        self.loaded = loaded
        self.engine = Engine(loaded.assistant, limits)
        self.decoder = copy.deepcopy(loaded.assistant.tokenizer)  # a fast tokenizer must not be used by two threads
        self.users = 0

    @property
    def name(self) -> str:
        return f"{self.loaded.name}/{self.loaded.version}"

    def warm_up(self) -> None:
        """One short answer, so that the first caller does not wait for what is made at first use."""
        ended = threading.Event()

        def notify(token: int | None) -> None:
            if token is None:
                ended.set()

        job = make_job(self.engine, "Hello", None, max_new_tokens=2, notify=notify)
        self.engine.submit(job)
        ended.wait()
        if job.failure:
            raise UserError(f"{self.name} does not answer: {job.failure}")


class Slot:
    """One name under which requests ask, and the version behind it."""

    def __init__(self, uri: str, limits: Limits, slots: Slots, metrics: Metrics) -> None:
        parts = URI.fullmatch(uri)
        if parts is None:
            raise UserError(f"--model {uri}: give {FORMS}, several with commas between them")
        self.uri, self.limits = uri, limits
        self.id = uri.removeprefix("models:/")
        self._slots, self._metrics = slots, metrics
        self._lock = threading.Lock()
        self._draining: list[Running] = []
        self._refused = (0, 0.0)  # the version that could not be loaded, and when to try again
        self._last_line = ""
        version = find_version(uri)
        self.running = self._load(version)
        metrics.watch(self.id, self._gauges())

    @contextmanager
    def use(self) -> Iterator[Running]:
        """The model that answers now; it stays until the block ends, whatever is promoted meanwhile."""
        with self._lock:
            running = self.running
            running.users += 1
        try:
            yield running
        finally:
            with self._lock:
                running.users -= 1
                self._free()

    def follow(self) -> bool:
        """Look at the alias once; True where another version took over. Trouble is printed, once, and the old stays."""
        try:
            version = find_version(self.uri)
            number = int(version.version)
            refused, until = self._refused
            if self._is_running(version) or (number == refused and time.monotonic() < until):
                return False
            fresh = self._load(version)
        except UserError as error:
            self._print(f"{self.id}: {error}; version {self.running.loaded.version} goes on answering")
            return False
        except Exception as error:  # a damaged version must not end the server that answers with another one
            self._print(f"{self.id}: {type(error).__name__}: {error}; version {self.running.loaded.version} stays")
            return False
        with self._lock:
            old, self.running = self.running, fresh
            self._draining.append(old)
            self._free()
        self._print(f"{self.id}: version {old.loaded.version} -> {number}")
        return True

    def close(self) -> None:
        self.running.engine.close()

    def _is_running(self, version: ModelVersion) -> bool:
        """Whether a version is the one in memory: a registered model that was made again counts from 1 again."""
        loaded = self.running.loaded
        return int(version.version) == loaded.version and version.tags.get(MODEL_TAG, loaded.digest) == loaded.digest

    def _load(self, version: Any) -> Running:
        number = int(version.version)
        outcome = "failed"
        try:
            running = Running(load_version(version, self._slots.models()), self.limits)
            running.warm_up()
            outcome = "loaded"
        except Exception:
            self._refused = (number, time.monotonic() + RETRY_S)
            raise
        finally:
            self._metrics.loads.labels(self.id, outcome).inc()
        return running

    def _free(self) -> None:
        """Let go of old versions that nobody uses; called with the lock held."""
        for old in [old for old in self._draining if not old.users]:
            old.engine.close()
            self._draining.remove(old)

    def _print(self, line: str) -> None:
        if line != self._last_line:
            print(line, file=sys.stderr, flush=True)
        self._last_line = line

    def _gauges(self) -> dict[str, Any]:
        return {
            "model_version": lambda: self.running.loaded.version or 0,
            "rows": lambda: len(self.running.engine.rows),
            "waiting": lambda: len(self.running.engine.waiting),
            "draining": lambda: len(self._draining),
            "images_kept": lambda: len(self.running.engine.images),
            "images_kept_bytes": lambda: self.running.engine.images.num_bytes,
            "image_hits": lambda: self.running.engine.images.hits,
        }


class Slots:
    """All models of a server; equal tensors of their bases lie in memory once."""

    def __init__(self, uris: Sequence[str], limits: Limits, metrics: Metrics) -> None:
        self.metrics = metrics
        self.by_id: dict[str, Slot] = {}
        for uri in dict.fromkeys(uri if uri.startswith("models:/") else f"models:/{uri}" for uri in uris):
            slot = Slot(uri, limits, self, metrics)
            self.by_id[slot.id] = slot

    def models(self) -> list[Any]:
        """Those in memory that go on answering."""
        return [slot.running.loaded.assistant.model for slot in self.by_id.values()]

    def find(self, model: str) -> Slot | None:
        """By id, by URI, or by the registered name where only one model has it."""
        model = model.removeprefix("models:/")
        if model in self.by_id:
            return self.by_id[model]
        named = [slot for slot in self.by_id.values() if slot.running.loaded.name == model]
        return named[0] if len(named) == 1 else None

    def follow(self) -> None:
        for slot in self.by_id.values():
            if "@" in slot.id:
                slot.follow()

    def close(self) -> None:
        for slot in self.by_id.values():
            slot.close()
