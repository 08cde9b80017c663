"""SHA-256 over values, files and folders: what names a run, a model, a data set."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def digest(value: Any) -> str:
    """SHA-256 of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def looks(stat: os.stat_result) -> list[int]:
    """What tells that a file is still the one whose digest is remembered: size in bytes, times in ns, inode.

    The time of the last change of the inode is among them: `tar x`, `rsync -t` and image layers set the modification
    time, which a new release of a file may share with the old one.
    """
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def folder_digest(folder: Path, pattern: str = "**/*") -> str:
    """SHA-256 over the names and contents of a folder's files that match `pattern`."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in files])
