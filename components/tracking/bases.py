"""Finding the base that a registered version refers to: a version holds adapters, not gigabytes."""

from __future__ import annotations

import json
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
# Where another machine makes the same files: the digest is of all of them, and libraries write their versions there.
REMEDIES = {
    "tiny": ", or make it under its params.yaml, package versions and kind of processor with: dvc repro base",
    "compose": ", or make it under its params.yaml and package versions with: dvc repro base",
}
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
    """The folder of the base with this digest, verified; it is brought here where it can be had elsewhere.

    Looked for in LEA_BASE alone, where that is set; else in the home folder, where it was when registered, in what
    models/base holds or refers to, and on the hub.
    """
    chosen = os.environ.get("LEA_BASE")
    if chosen:
        return _chosen(chosen, reference)
    for place in _places_here(reference, copies):
        if _is(place, reference):
            return place.resolve()
    fetched = _fetched(reference)
    if fetched is not None:
        return fetched
    raise UserError(
        f"the model's base {reference['id']!r} (digest {reference['digest'][:12]}) is not on this machine; "
        f"set LEA_BASE to a copy of its folder{REMEDIES.get(reference['kind'], '')}"
    )


def _chosen(folder: str, reference: Mapping[str, Any]) -> Path:
    place = Path(folder).expanduser().resolve()
    if _is(place, reference):
        return place
    state = "holds other files" if place.is_dir() else "is no folder"
    raise UserError(f"LEA_BASE: {folder} {state}; the model needs the base with digest {reference['digest'][:12]}")


def _places_here(reference: Mapping[str, Any], copies: list[str]) -> Iterator[Path]:
    yield _kept(reference)
    yield from map(Path, copies)
    yield BASE
    present = BASE / REFERENCE_FILE
    if reference["kind"] == CHECKPOINT and present.is_file():  # a folder that lies elsewhere on each machine
        stated = json.loads(present.read_text(encoding="utf-8"))
        if stated["kind"] == CHECKPOINT and stated["digest"] == reference["digest"]:
            yield Path(stated["id"])


def _fetched(reference: Mapping[str, Any]) -> Path | None:
    """A base that is not on this machine, brought here by its digest from where others can have it: the hub."""
    if reference["kind"] != CHECKPOINT or not reference["revision"]:
        return None
    folder = _downloaded(reference["id"], reference["revision"])
    if _is(folder, reference):
        return folder
    raise UserError(
        f"{reference['id']} at {reference['revision']} is not the base with digest {reference['digest'][:12]}"
    )


def _is(folder: Path, reference: Mapping[str, Any]) -> bool:
    return folder.is_dir() and base_digest(folder, reference["kind"]) == reference["digest"]


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
