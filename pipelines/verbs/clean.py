"""`lea clean`: list run state and free it."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

# What stages and searches call their folders. LEA_HOME may be a folder whose runs/ holds those of TensorBoard, too.
OURS = re.compile(r"\.?(?:prepare|pretrain|finetune|evaluate|search)-.+")
SUMMARY = "list run state (checkpoints, half-finished work) and free it"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--free", action="store_true", help="remove it; finished runs are exported already")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.errors import UserError
    from components.workspace import home

    kept: dict[str, str] = {}
    listed = []
    for folder in _runs(home() / "runs"):
        size = _num_bytes(folder)
        reason = _free(folder) if arguments.free else None
        if reason:
            kept[folder.name] = reason
        listed.append({"run": folder.name, "bytes": size, "freed": arguments.free and not reason, "kept": reason})
        if not arguments.json:
            print(f"  {size / 1e6:8.1f} MB  {folder}{f'  kept: {reason}' if reason else ''}")
    if arguments.json:
        print(json.dumps(listed))
    else:
        hint = ", freed" if arguments.free and not kept else "" if arguments.free else "; --free removes them"
        print(f"{sum(entry['bytes'] for entry in listed) / 1e6:.1f} MB in {len(listed)} runs{hint}")
    if kept:
        named = "; ".join(f"{name}: {reason}" for name, reason in kept.items())
        raise UserError(f"{len(kept)} of {len(listed)} runs were kept ({named})")


def _runs(folder: Path) -> list[Path]:
    """The run folders; what someone else has put there is not ours."""
    folders = (run for run in folder.glob("*") if run.is_dir() and not run.is_symlink())
    return sorted(run for run in folders if OURS.fullmatch(run.name))


def _free(folder: Path) -> str | None:
    """Remove a run's state, or say why it stays; from the storage that LEA_STORAGE names if it was put there from here.

    A stage that comes to it meanwhile waits for the lock.
    """
    import shutil

    from components.leases import remove_own
    from components.locks import lock_if_free
    from components.shared_storage import shared_storage
    from components.tracking.runs import waiting

    if of := waiting(folder):
        return f"metrics wait to be sent ({', '.join(of)}), which dvc repro register does when MLflow answers"
    with ExitStack() as held:
        for name in dict.fromkeys(_locks(folder)):
            if not held.enter_context(lock_if_free(name)):
                return "a process is at work on it"
        storage = shared_storage()
        if storage:
            remove_own(storage, folder.name)
        shutil.rmtree(folder)
    return None


def _locks(folder: Path) -> Iterator[str]:
    """The locks of those who may be writing there: the run's own, and that of the search that began it."""
    from components.search.upkeep import OWNER_FILE

    yield folder.name
    owner = folder / OWNER_FILE
    if owner.is_file():
        yield owner.read_text(encoding="utf-8", errors="replace").strip().replace("/", "_") or folder.name


def _num_bytes(folder: Path) -> int:
    """Bytes on disk; a file that goes meanwhile counts nothing."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total
