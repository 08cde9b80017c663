"""Digests of base models that lie in local folders: DVC does not watch them, as params.yaml names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest, looks
from components.errors import UserError
from components.files import write_json
from components.params import Base
from components.workspace import BASE, FINETUNE, INSIGHT, PREPARED, PRETRAIN, REPORT, SPLITS, home, local_place

WRITTEN = (BASE, PRETRAIN, FINETUNE, PREPARED, SPLITS, INSIGHT, REPORT)  # by stages
SEEN_FILE = "base-files.json"  # path -> what `looks` says, SHA-256: gigabytes are read once


def local_digests(base: Base) -> dict[str, str]:
    """SHA-256 of names and contents by setting, of what the chosen kind of base reads from local folders."""
    places = {setting: Path(local_place(place)) for setting, place in _chosen(base).items()}
    folders = {setting: place for setting, place in places.items() if place.is_dir()}
    if not folders:
        return {}
    seen, now = _seen(), {}
    found = {}
    for setting, folder in folders.items():
        files = sorted(path for path in folder.glob("*") if path.is_file())  # no loader reads deeper
        now |= {str(path.resolve()): _looked_at(path, seen) for path in files}
        found[setting] = digest([[path.name, now[str(path.resolve())][-1]] for path in files])
    write_json(home() / SEEN_FILE, seen | now)
    return found


def check_own_place(base: Base) -> None:
    """UserError where a base lies in what a stage writes: DVC deletes that before the stage runs."""
    for setting, place in _chosen(base).items():
        there = Path(local_place(place))
        out = next((out for out in WRITTEN if there.is_dir() and there.resolve().is_relative_to(out.resolve())), None)
        if out:
            raise UserError(
                f"params.yaml: {setting} is {place}, in {out}, which a stage writes and DVC deletes before: "
                "move it to another folder, as models/mine, and name that"
            )


def _chosen(base: Base) -> dict[str, str]:
    """By setting, what the chosen kind of base is made from: a local folder or a hub id."""
    return {
        "tiny": {},
        "compose": {"base.compose.vision": base.compose.vision, "base.compose.language": base.compose.language},
        "checkpoint": {"base.checkpoint.model": base.checkpoint.model},
    }[base.kind]


def _looked_at(path: Path, seen: dict[str, list[Any]]) -> list[Any]:
    known, as_it_is = seen.get(str(path.resolve()), []), looks(path.stat())
    return known if known[:-1] == as_it_is else [*as_it_is, file_digest(path)]


def _seen() -> dict[str, list[Any]]:
    try:
        seen = json.loads((home() / SEEN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):  # only a memory: made again
        return {}
    return {path: known for path, known in seen.items() if isinstance(known, list)} if isinstance(seen, dict) else {}
