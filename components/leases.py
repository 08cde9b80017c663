"""Whose a run in the shared storage is, and who is at work on it.

Locks reach as far as one home folder. Homes that share a storage know of each other by what lies beside a run there:

    runs/RUN/owner        the home that first put the run there; only that one removes it
    runs/RUN/lease.json   the home that is at work on it, renewed for as long as it is
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from components.errors import UserError
from components.files import write_text
from components.locks import lock
from components.shared_storage import SharedStorage, StorageError
from components.snapshots import RUNS, is_there, remove_run
from components.workspace import home

RENEW_EVERY_S = 15.0
FREE_AFTER_S = 180.0  # without renewal; more than a store fails for a while, or than clocks differ
LOOK_EVERY_S = 5.0  # whether a run that is waited for was renewed


@dataclass(frozen=True)
class Holder:
    """A home folder, as others know it."""

    id: str
    place: str  # HOST:FOLDER, for messages


def this_home() -> Holder:
    """The home folder of this process; its id is made once and lies in it."""
    with lock("home-id"):
        file = home() / "id"
        if not file.is_file():
            write_text(file, uuid.uuid4().hex)
        return Holder(file.read_text(encoding="utf-8").strip(), f"{socket.gethostname()}:{home()}")


def own(storage: SharedStorage, run: str, holder: Holder) -> None:
    """Before a run is put there: it is the holder's, unless it is there already."""
    if not storage.exists(_owner(run)) and not is_there(storage, run):
        storage.write(_owner(run), holder.id.encode())


def remove_own(storage: SharedStorage, run: str) -> bool:
    """Remove a run from the storage if this home put it there and no other is at work on it; whether it is removed."""
    mine = this_home()
    if storage.read(_owner(run)) != mine.id.encode() or _seconds_left(_read(storage, run), mine) > 0:
        return False
    remove_run(storage, run)
    return True


def take(storage: SharedStorage, run: str, holder: Holder) -> None:
    """Say that the holder is at work on a run. UserError where another is, which shows when it renews its lease.

    A lease that is not renewed is of a home that was killed: it is waited for until it lapses.
    """
    found = _read(storage, run)
    left = min(_seconds_left(found, holder), FREE_AFTER_S)  # at most, whatever the clock says there
    if found and left > 0:
        print(
            f"run {run} in {storage.url} was at work from {found[0].place} {FREE_AFTER_S - left:.0f} s ago: waiting to "
            f"see whether it still is; if it was killed there, the run is free in {left:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        _wait_for_lapse(storage, run, holder, found, time.monotonic() + left)
    _write(storage, run, holder)


def _wait_for_lapse(storage: SharedStorage, run: str, holder: Holder, seen: tuple[Holder, float], end: float) -> None:
    """Wait until a lease is released or, by time.monotonic(), at its end. UserError where it is renewed."""
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(LOOK_EVERY_S, left))
        found = _read(storage, run)
        if found is None or found[0].id == holder.id:
            return
        if found != seen:
            raise UserError(
                f"run {run} in {storage.url} is at work from {found[0].place}: wait until it ends there, then run the "
                "stage again"
            )


def renew(storage: SharedStorage, run: str, holder: Holder) -> None:
    """Say that the holder still is. UserError where another has taken the run meanwhile."""
    found = _read(storage, run)
    if found and found[0].id != holder.id:
        raise UserError(
            f"run {run} in {storage.url} was not renewed for {FREE_AFTER_S:.0f} s and is now at work from "
            f"{found[0].place}; run the stage again when it has ended there"
        )
    _write(storage, run, holder)


def release(storage: SharedStorage, run: str, holder: Holder) -> None:
    """Leave a run to others."""
    try:
        found = _read(storage, run)
        if found and found[0].id == holder.id:
            storage.remove(_lease(run))
    except StorageError:  # what is not released lapses
        return


@contextmanager
def held(storage: SharedStorage, run: str, holder: Holder) -> Iterator[None]:
    """Take a run, renew that in the background, and release it at the end."""
    take(storage, run, holder)
    over = threading.Event()
    at_once = storage.at_once()

    def keep() -> None:
        while not over.wait(RENEW_EVERY_S):
            try:
                renew(at_once, run, holder)
            except StorageError:  # it may answer again before the lease lapses
                continue
            except UserError:  # lost: the workers learn it where they publish
                return

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        release(storage, run, holder)


def _owner(run: str) -> str:
    return f"{RUNS}/{run}/owner"


def _lease(run: str) -> str:
    return f"{RUNS}/{run}/lease.json"


def _write(storage: SharedStorage, run: str, holder: Holder) -> None:
    storage.write(_lease(run), json.dumps({**asdict(holder), "time": time.time()}).encode())


def _read(storage: SharedStorage, run: str) -> tuple[Holder, float] | None:
    """The holder, and when it was last at work, in seconds since the epoch."""
    content = storage.read(_lease(run))
    if content is None:
        return None
    try:
        found = json.loads(content)
        return Holder(str(found["id"]), str(found["place"])), float(found["time"])
    except (ValueError, KeyError, TypeError):
        raise StorageError(f"{storage.url}/{_lease(run)} is damaged; remove it") from None


def _seconds_left(found: tuple[Holder, float] | None, holder: Holder) -> float:
    """How long a run is still another's."""
    if found is None or found[0].id == holder.id:
        return 0.0
    return found[1] + FREE_AFTER_S - time.time()
