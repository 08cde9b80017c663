"""A run whose inputs and state lie in the shared storage, for workers that do not see this machine's disk.

Here inputs are put there once, and what the workers store is collected. A worker finds its inputs in its node's cache,
works in a folder beside them, and publishes that folder at each checkpoint.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from components import leases, snapshots
from components.data.shards import read_manifest
from components.data.storage import is_url
from components.errors import UserError
from components.files import remove_folder
from components.locks import lock
from components.shared_storage import SharedStorage, StorageError, shared_storage
from components.training.checkpoint import CHECKPOINTS, newest_intact
from components.training.job import Job
from components.training.parts import parts_of
from components.training.run_files import (
    has_parts,
    intact_state_files,
    is_finished,
    latest_of,
    newest_intact_there,
    state_files,
)
from components.workspace import MANIFEST, home

MISTAKE = "mistake.txt"  # of a run: what a worker cannot mend by starting again
EVERY_S = 15.0  # how often the journals are published between checkpoints
LOOK_EVERY_S = 5.0  # how often they are looked for


@dataclass(frozen=True)
class Remote:
    """What a worker needs to find a run in the storage."""

    url: str
    inputs: str  # digest of the folder with base, start, prepared, assignments
    run: str
    home: str  # the id of the home folder that the run is started from
    place: str  # of that folder, for messages

    @property
    def storage(self) -> SharedStorage:
        return SharedStorage(self.url)

    @property
    def holder(self) -> leases.Holder:
        return leases.Holder(self.home, self.place)


def put(job: Job) -> Remote | None:
    """Put what a run reads into the storage, if one is named."""
    storage = shared_storage()
    return put_inputs(job, storage) if storage else None


def put_inputs(job: Job, storage: SharedStorage) -> Remote:
    """Put what a run reads into the storage, unless it is there. Gigabytes are hashed once, and sent once."""
    files = {"assignments.parquet": job.assignments, **_below("base", job.base)}
    if job.start:
        files |= _below("start", job.start)
    if not is_url(job.prepared):
        for source in job.sources:
            folder = Path(job.prepared, source)
            names = [MANIFEST, "index.parquet", *(shard["name"] for shard in read_manifest(folder)["shards"])]
            files |= {f"prepared/{source}/{name}": folder / name for name in names}
    with lock("storage"):  # trials of a search come here at the same time
        digests = snapshots.Digests(home() / "stored-files.json")
        inputs = snapshots.put_folder(storage, files, digests)
        digests.keep()
    mine = leases.this_home()
    return Remote(storage.url, inputs, job.folder.name, mine.id, mine.place)


def _below(name: str, folder: Path) -> dict[str, Path]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {f"{name}/{path.relative_to(folder).as_posix()}": path for path in paths}


def recall(job: Job) -> None:
    """Bring what the storage, if one is named, holds of a run to this machine where that is further than here.

    A finished run is only read. UserError where another home is at work on one that is not.
    """
    storage, digests = shared_storage(), snapshots.Digests()
    if storage is None or not (listing := _further_there(job, storage, digests)):
        return
    if is_finished(listing):
        bring(job, storage, digests)
        return
    with leases.held(storage, job.folder.name, leases.this_home()):
        bring(job, storage, digests)


def _further_there(job: Job, storage: SharedStorage, digests: snapshots.Digests) -> snapshots.Listing | None:
    """The storage's state where its newest intact checkpoint is beyond the one here, or it alone has the parts."""
    run = job.folder.name
    listing = snapshots.run_listing(storage, run)
    if not listing:
        return None
    here, there = newest_intact(job.folder / CHECKPOINTS, digests.of), newest_intact_there(storage, run, listing)
    return listing if there > here or (there == here and has_parts(listing) and parts_of(job) is None) else None


def bring(job: Job, storage: SharedStorage, digests: snapshots.Digests | None = None) -> None:
    """Make the run's state on this machine that of the storage. UserError where the storage holds no such run.

    digests: those of files here that are known.
    """
    run, known = job.folder.name, digests or snapshots.Digests()
    if snapshots.collect(storage, run, job.folder, state_files, known) is None:
        raise UserError(f"{storage.url} no longer holds run {run}; what is in {job.folder} stays: run the stage again")


def settle(job: Job, remote: Remote) -> None:
    """Before workers start: the storage holds the state that this machine holds, and no earlier mistake.

    UserError where another home is at work on the run.
    """
    digests = snapshots.Digests()  # each file is read once, unless it changes meanwhile
    leases.take(remote.storage, remote.run, remote.holder)
    if _further_there(job, remote.storage, digests):
        bring(job, remote.storage, digests)
    leases.own(remote.storage, remote.run, remote.holder)
    intact = partial(intact_state_files, digest_of=digests.of)
    snapshots.publish(remote.storage, remote.run, job.folder, intact, digests)
    remote.storage.remove(_mistake(remote))


@contextmanager
def held(job: Job) -> Iterator[Remote | None]:
    """For as long as a run is trained: its inputs and state in the storage, if one is named, and no other home at work.

    UserError where one is.
    """
    remote = put(job)
    if remote is None:
        yield None
        return
    with leases.held(remote.storage, remote.run, remote.holder):
        settle(job, remote)
        yield remote


def _mistake(remote: Remote) -> str:
    """Of one home: a run that it lost to another is a mistake here, not there."""
    return f"{snapshots.RUNS}/{remote.run}/{remote.home}-{MISTAKE}"


def leave_mistake(remote: Remote, line: str) -> None:
    remote.storage.write(_mistake(remote), line.encode())


def read_mistake(remote: Remote) -> str | None:
    content = remote.storage.read(_mistake(remote))
    return content.decode() if content else None


def localized(job: Job, remote: Remote) -> Job:
    """In a worker: the job with its inputs and its folder on this node, in the state that the storage holds."""
    inputs = snapshots.fetch_folder(remote.storage, remote.inputs)
    cache = snapshots.cache_folder()
    here = replace(
        job,
        base=inputs / "base",
        start=inputs / "start" if job.start else None,
        prepared=job.prepared if is_url(job.prepared) else str(inputs / "prepared"),
        assignments=inputs / "assignments.parquet",
        folder=cache / snapshots.RUNS / remote.home / remote.run,
    )
    with snapshots.locked(cache, remote.run):  # the node's workers share it
        found = snapshots.collect(remote.storage, remote.run, here.folder, state_files, snapshots.Digests())
        if found is None and here.folder.exists():
            remove_folder(here.folder)
    return here


def leave(job: Job) -> None:
    """In a worker that is done: free the node of the run's state, which the storage holds."""
    with snapshots.locked(snapshots.cache_folder(), job.folder.name):
        if job.folder.exists():
            remove_folder(job.folder)


class Publisher:
    """Called by the worker of rank 0 after each step: publishes the run's state, at checkpoints and now and then."""

    def __init__(self, job: Job, remote: Remote) -> None:
        self._folder, self._remote = job.folder, remote
        self._digests = snapshots.Digests()
        self._last = time.monotonic()
        self._said = False

    def __call__(self, saved: bool) -> None:
        """saved: a checkpoint, or the parts, have just been written; workers go on when all of it is there.

        Journals alone may come later: a storage that fails meanwhile is said once, and tried again the next time.
        """
        if saved:
            self._publish(self._remote.storage)
        elif time.monotonic() - self._last >= EVERY_S:
            try:
                self._publish(self._remote.storage.at_once())
            except StorageError as error:
                self._last = time.monotonic()
                if not self._said:
                    self._said = True
                    print(f"progress is published later: {error}", file=sys.stderr, flush=True)

    def _publish(self, storage: SharedStorage) -> None:
        leases.renew(storage, self._remote.run, self._remote.holder)
        snapshots.publish(storage, self._remote.run, self._folder, state_files, self._digests)
        self._last, self._said = time.monotonic(), False


class Mirror:
    """Keeps the journals on this machine those of the storage while workers write there."""

    def __init__(self, job: Job, remote: Remote, clock: Callable[[], float] = time.monotonic) -> None:
        self._job, self._remote, self._clock = job, remote, clock
        self._storage = remote.storage.at_once()
        self._digests, self._next, self._covered, self._said = snapshots.Digests(), 0.0, 0, False

    def covered(self, at_once: bool = False) -> int:
        """Bring the journals, if it is time; the steps that the newest checkpoint covers.

        A storage that fails meanwhile costs the view of the progress, not the run: it is said once.
        """
        if not at_once and self._clock() < self._next:
            return self._covered
        self._next = self._clock() + LOOK_EVERY_S
        try:
            listing = snapshots.collect(
                self._storage,
                self._remote.run,
                self._job.folder,
                state_files,
                self._digests,
                wanted=lambda name: "/" not in name,
            )
            if listing is not None:  # else removed there meanwhile: what is here stays
                self._covered = latest_of(listing)
        except UserError as error:
            if not self._said:
                self._said = True
                print(f"{self._job.stage}: progress is not to be seen: {error}", file=sys.stderr, flush=True)
        return self._covered
