"""One process at a time: locks that the system frees when their holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from components.workspace import home


@contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold `name` against the other processes of this home folder; freed by the system if we die."""
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
