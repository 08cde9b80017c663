"""What each Ray Train worker runs: the training loop, on inputs that it sees or fetches, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import write_text
from components.shared_storage import StorageAway, StorageError
from components.training.job import Job, from_message, to_message
from components.training.remote import MISTAKE, Publisher, Remote, leave, leave_mistake, localized, read_mistake


def message(job: Job, remote: Remote | None) -> dict[str, Any]:
    """A run as plain values that any process can read."""
    return {"job": to_message(job), "remote": asdict(remote) if remote else None}


def opened(received: dict[str, Any]) -> tuple[Job, Remote | None]:
    """What `message` made plain."""
    return from_message(received["job"]), Remote(**received["remote"]) if received["remote"] else None


def work(received: dict[str, Any]) -> None:
    """A worker's whole life. A UserError is left where a group that Ray starts again finds it and exits.

    A storage that is away is none: it may be back when Ray starts the group again.
    """
    job, remote = opened(received)
    try:
        if mistake_of(job, remote) is not None:
            return
        if remote is None:
            _train(job, None)
        else:
            here = localized(job, remote)
            _train(here, remote)
            leave(here)
    except StorageAway as error:
        raise RuntimeError(with_place(error)) from None
    except UserError as error:
        line = with_place(error)
        with suppress(StorageError):  # what cannot be written there ends the group each time that it starts
            _leave_mistake(job, remote, line)
        raise UserError(line) from None


def _train(job: Job, remote: Remote | None) -> None:
    from components.training.loop import train

    if remote is None:
        train(job)
    else:
        train(job, Publisher(job, remote))


def mistake_of(job: Job, remote: Remote | None) -> str | None:
    """What a worker of this run has left that no new start mends."""
    if remote is not None:
        return read_mistake(remote)
    file = _mistake_file(job)
    return file.read_text(encoding="utf-8") if file.exists() else None


def forget_mistake(job: Job) -> None:
    _mistake_file(job).unlink(missing_ok=True)


def _leave_mistake(job: Job, remote: Remote | None, line: str) -> None:
    if remote is not None:
        leave_mistake(remote, line)
    else:
        write_text(_mistake_file(job), line)


def _mistake_file(job: Job) -> Path:
    return job.folder / MISTAKE


@contextmanager
def errors_that_travel() -> Iterator[None]:
    """What an actor raises reaches its caller whole: a storage's error with the node's name, a library's in words."""
    try:
        yield
    except StorageAway as error:  # no mistake of the user's: the group is started again
        raise RuntimeError(with_place(error)) from None
    except UserError as error:
        raise UserError(with_place(error)) from None
    except OSError:
        raise
    except Exception as error:  # pydantic's, say, cannot be made again from its message
        raise RuntimeError(f"{type(error).__name__}: {' '.join(str(error).split())}") from None


def with_place(error: UserError) -> str:
    """The line of an error; where the storage is the reason, with the node: each has credentials of its own."""
    from components.nodes import this_node

    return f"worker on {this_node()}: {error}" if isinstance(error, StorageError) else str(error)
