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
from components.files import expanded, fresh_folder, write_json
from components.model.hub import downloaded
from components.shared_storage import shared_storage
from components.snapshots import Digests, fetch_folder, put_folder
from components.workspace import BASE, home

REFERENCE_FILE = "base.json"
# Where another machine makes the same files: the digest is of all of them, and libraries write their versions there.
REMEDIES = {
    "tiny": ", or make it under its params.yaml, package versions and kind of processor with: dvc repro base",
    "compose": ", or make it under its params.yaml and package versions with: dvc repro base",
}
STORED = "bases"  # in the storage, by digest: the name of the folder with the files
CHECKPOINT = "checkpoint"  # the kind whose files lie elsewhere: in a folder of the user's, or on the hub


def base_digest(folder: Path, kind: str) -> str:
    """The digest that base.json states, computed from the files: all of them, of a checkpoint the top level."""
    return digest([[name, file_digest(path)] for name, path in _own_files(folder, kind).items()])


def _own_files(folder: Path, kind: str) -> dict[str, Path]:
    files = folder.glob("*" if kind == CHECKPOINT else "**/*")
    own = sorted(path for path in files if path.is_file() and path != folder / REFERENCE_FILE)
    return {path.relative_to(folder).as_posix(): path for path in own}


def keep(base: Path, reference: Mapping[str, Any]) -> list[str]:
    """Make the base outlast its stage; returns the absolute folders where it can be found on this machine.

    A base made here is linked (or copied) into the home folder. A checkpoint stays where it is. What no hub has goes
    to the storage that LEA_STORAGE names too, for other machines.
    """
    if reference["kind"] == CHECKPOINT:
        local = Path(reference["id"])
        if not local.is_dir():
            return []
        _share(local, reference)
        return [str(local.resolve())]
    kept = _kept(reference)
    if not kept.is_dir():
        with fresh_folder(kept) as aside:
            link_tree(base, aside)
            if base_digest(aside, reference["kind"]) != reference["digest"]:
                raise UserError(f"{base} is not what its {REFERENCE_FILE} says; run: dvc repro -sf base")
    _share(kept, reference)
    return [str(kept)]


def _share(folder: Path, reference: Mapping[str, Any]) -> None:
    """Put a base into the storage, if one is named and has not had it."""
    storage, name = shared_storage(), f"{STORED}/{reference['digest']}"
    if storage is None or storage.exists(name):
        return
    stored = put_folder(storage, _own_files(folder, reference["kind"]), Digests())
    storage.write(name, stored.encode())


def place_of(base: Path, reference: Mapping[str, Any]) -> Path:
    """Where the files lie of the base that models/base holds or refers to."""
    if reference["kind"] != CHECKPOINT:
        return base
    local = Path(reference["id"])
    return local if local.is_dir() else _downloaded(reference["id"], reference["revision"])


def find(reference: Mapping[str, Any], copies: list[str]) -> Path:
    """The folder of the base with this digest, verified; it is brought here where it can be had elsewhere.

    Looked for in LEA_BASE alone, where that is set; else in the home folder, where it was when registered, in what
    models/base holds or refers to, in the storage that LEA_STORAGE names, and on the hub.
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
    again = REMEDIES.get(reference["kind"], "")
    source = f", registered from {copies[0]}" if copies else ""
    raise UserError(
        f"the model's base {reference['id']!r} (digest {reference['digest'][:12]}{source}) is not on this machine; "
        f"set LEA_BASE to a copy of its folder, or LEA_STORAGE here and where it was registered{again}"
    )


def _chosen(folder: str, reference: Mapping[str, Any]) -> Path:
    place = expanded(folder, "LEA_BASE").resolve()
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
    """A base that is not on this machine, brought here by its digest: from LEA_STORAGE, else from the hub."""
    short, storage = reference["digest"][:12], shared_storage()
    stored = storage.read(f"{STORED}/{reference['digest']}") if storage else None
    if storage and stored:
        folder = fetch_folder(storage, stored.decode())
        if _is(folder, reference):
            return folder
        raise UserError(f"{storage.url}/{STORED}/{reference['digest']} is not the base with digest {short}; remove it")
    if reference["kind"] != CHECKPOINT or not reference["revision"]:
        return None
    folder = _downloaded(reference["id"], reference["revision"])
    if _is(folder, reference):
        return folder
    raise UserError(f"{reference['id']} at {reference['revision']} is not the base with digest {short}")


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
    try:
        return downloaded(model, revision)
    except (OSError, ValueError) as error:  # ValueError: not the form of an id
        reason = str(error).strip().splitlines()[0].removesuffix(".")
        raise UserError(f"the model's base {model} at {revision} cannot be downloaded: {reason}") from None
