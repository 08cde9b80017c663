"""Finding the base that a registered version refers to: a version holds adapters, not gigabytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest
from components.errors import UserError
from components.files import fresh_folder, write_json
from components.workspace import BASE, home

REFERENCE_FILE = "base.json"
CHECKPOINT = "checkpoint"  # the kind whose files lie elsewhere: in a folder of the user's, or on the hub


def base_digest(folder: Path, kind: str) -> str:
    """The digest that base.json states, computed from the files: all of them, of a checkpoint the top level."""
    files = folder.glob("*" if kind == CHECKPOINT else "**/*")
    own = sorted(path for path in files if path.is_file() and path != folder / REFERENCE_FILE)
    return digest([[path.relative_to(folder).as_posix(), file_digest(path)] for path in own])


def keep(base: Path, reference: Mapping[str, Any]) -> list[str]:
    """Make the base outlast its stage; returns the absolute folders where it can be found on this machine.

    A base made here is linked (or copied) into the home folder. A checkpoint stays where it is.
    """
    if reference["kind"] == CHECKPOINT:
        local = Path(reference["id"])
        return [str(local.resolve())] if local.is_dir() else []
    kept = _kept(reference)
    if not kept.is_dir():
        with fresh_folder(kept) as aside:
            link_tree(base, aside)
            if base_digest(aside, reference["kind"]) != reference["digest"]:
                raise UserError(f"{base} is not what its {REFERENCE_FILE} says; run: dvc repro -sf base")
    return [str(kept)]


def place_of(base: Path, reference: Mapping[str, Any]) -> Path:
    """Where the files lie of the base that models/base holds or refers to."""
    if reference["kind"] != CHECKPOINT:
        return base
    local = Path(reference["id"])
    return local if local.is_dir() else _downloaded(reference["id"], reference["revision"])


def find(reference: Mapping[str, Any], copies: list[str]) -> Path:
    """The folder of the base with this digest, verified.

    Looked for in LEA_BASE, the home folder, where it was when registered, models/base, the hub.
    """
    short, kind = reference["digest"][:12], reference["kind"]
    chosen = os.environ.get("LEA_BASE")
    if chosen:
        folder = Path(chosen).resolve()
        if folder.is_dir() and base_digest(folder, kind) == reference["digest"]:
            return folder
        state = "holds other files" if folder.is_dir() else "is no folder"
        raise UserError(f"LEA_BASE: {chosen} {state}; the model needs the base with digest {short}")
    for place in [_kept(reference), *map(Path, copies), BASE]:
        if place.is_dir() and base_digest(place, kind) == reference["digest"]:
            return place.resolve()
    if kind == CHECKPOINT and reference["revision"]:
        folder = _downloaded(reference["id"], reference["revision"])
        if base_digest(folder, kind) == reference["digest"]:
            return folder
        raise UserError(f"{reference['id']} at {reference['revision']} is not the base with digest {short}")
    raise UserError(
        f"the model's base {reference['id']!r} (digest {short}) is not on this machine; "
        "set LEA_BASE to its folder, or make it with: dvc repro base"
    )


@contextmanager
def referred(reference: Mapping[str, Any], place: Path) -> Iterator[Path]:
    """A folder that refers to the base at `place`, in the form that the model loader reads."""
    with tempfile.TemporaryDirectory(prefix="lea-base-") as name:
        write_json(Path(name) / REFERENCE_FILE, {**reference, "kind": CHECKPOINT, "id": str(place), "revision": None})
        yield Path(name)


def link_tree(source: Path, target: Path) -> None:
    """Put the files of `source` under `target`, as hard links where the file system can."""
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(path, place)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)  # resolved: DVC may have put a symbolic link there
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _kept(reference: Mapping[str, Any]) -> Path:
    return home() / "bases" / reference["digest"]


def _downloaded(model: str, revision: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision))  # from the cache, where it is there
    except (OSError, ValueError) as error:  # hub errors are OSErrors; ValueError: not the form of an id
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the model's base {model} at {revision} cannot be downloaded: {reason}") from None
