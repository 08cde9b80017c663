"""Which run folders a search made, how much they hold, and which it may remove."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path

from components.files import write_text
from components.leases import remove_own
from components.shared_storage import shared_storage
from components.snapshots import RUNS, is_there
from components.tracking.runs import waiting
from components.workspace import home

OWNER_FILE = "search.txt"  # in the folder of a run that a search began


def claim(run: Path, search: str) -> None:
    """Mark a run that does not exist yet, here or in the storage, as begun by `search`; others' runs stay theirs."""
    storage = shared_storage()
    if not run.exists() and not (storage and is_there(storage, run.name)):
        write_text(run / OWNER_FILE, search)


def owned(search: str) -> list[Path]:
    """Folders of the runs that `search` began."""
    marks = sorted((home() / "runs").glob(f"*/{OWNER_FILE}"))
    return [mark.parent for mark in marks if mark.read_text(encoding="utf-8") == search]


def num_bytes(search: str) -> int:
    """Bytes of the runs that `search` began, here and in the storage. A file that goes meanwhile counts nothing."""
    total, storage = 0, shared_storage()
    for run in owned(search):
        total += storage.size(f"{RUNS}/{run.name}") if storage else 0
        for file in run.rglob("*"):
            try:
                total += file.stat().st_size if file.is_file() else 0
            except FileNotFoundError:
                continue
    return total


def prune(search: str, names: Collection[str]) -> list[str]:
    """Remove the named runs, of those that `search` began; what tracking missed stays. Returns what is gone."""
    gone = [run for run in owned(search) if run.name in names and not waiting(run)]
    storage = shared_storage()
    for run in gone:
        shutil.rmtree(run, ignore_errors=True)  # a worker that is being stopped may still write there
        if storage:
            remove_own(storage, run.name)
    return [run.name for run in gone]
