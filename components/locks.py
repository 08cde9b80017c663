"""One process at a time: locks that the system frees when their holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from components.errors import UserError
from components.workspace import home


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold `name` against the other processes of this home folder; freed by the system if we die."""
    with _opened(name) as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def lock_if_free(name: str) -> Iterator[bool]:
    """Hold `name` if no other process does; whether it is held now."""
    with _opened(name) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _opened(name: str) -> IO[str]:
    folder = home() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder.parent} must be a folder that can be written to; see LEA_HOME") from None
    return (folder / name).open("w")
