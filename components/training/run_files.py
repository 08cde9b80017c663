"""The files that are a run's state, here and as the storage lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from components import snapshots
from components.shared_storage import SharedStorage
from components.training.checkpoint import CHECKPOINTS, STATE_FILE, is_intact, is_intact_by, step_of
from components.training.journal import METRICS_FILE, SKIPPED_FILE, TIMINGS_FILE, VALIDATION_FILE
from components.training.parts import PARTS, PARTS_DIGEST

JOURNALS = (METRICS_FILE, TIMINGS_FILE, SKIPPED_FILE, VALIDATION_FILE)
SAMPLES_FILE = "validation_samples.txt"  # of a search's run: of how many samples its validations are


def state_files(folder: Path) -> Iterator[str]:
    """Names of the files that are a run's state: journals, checkpoints, parts; not what is half written."""
    yield from (name for name in (*JOURNALS, SAMPLES_FILE, PARTS_DIGEST) if (folder / name).is_file())
    for part in (*sorted((folder / CHECKPOINTS).glob("step-*")), folder / PARTS):
        for path in part.rglob("*"):
            if path.is_file() and not path.name.endswith(".partial"):
                yield path.relative_to(folder).as_posix()


def intact_state_files(folder: Path, digest_of: Callable[[Path], str]) -> Iterator[str]:
    """The same without the checkpoints that are damaged. digest_of: SHA-256 of a file."""
    damaged = {path.name for path in (folder / CHECKPOINTS).glob("step-*") if not is_intact(path, digest_of)}
    yield from (name for name in state_files(folder) if _checkpoint_of(name) not in damaged)


def _checkpoint_of(name: str) -> str | None:
    """The checkpoint that a state file is part of, if it is."""
    return name.split("/")[1] if name.startswith(f"{CHECKPOINTS}/step-") else None


def latest_of(listing: snapshots.Listing) -> int:
    """Steps that the newest checkpoint of a listing covers."""
    return max((step_of(name) for each in listing if (name := _checkpoint_of(each))), default=0)


def newest_intact_there(storage: SharedStorage, run: str, listing: snapshots.Listing) -> int:
    """Step of the newest checkpoint in the storage whose files have the digests that it states; 0 without one."""
    for name in sorted({name for each in listing if (name := _checkpoint_of(each))}, reverse=True):
        top = f"{CHECKPOINTS}/{name}/"
        digests = {each.removeprefix(top): value for each, value in listing.items() if each.startswith(top)}
        stated = snapshots.read_file(storage, run, digests.get(STATE_FILE, ""))
        if stated is not None and is_intact_by(name, stated, digests):
            return step_of(name)
    return 0


def has_parts(listing: snapshots.Listing) -> bool:
    return any(name.startswith(f"{PARTS}/") for name in listing)


def is_finished(listing: snapshots.Listing) -> bool:
    """Whether a run has ended: the digest of its parts is written last."""
    return has_parts(listing) and PARTS_DIGEST in listing
