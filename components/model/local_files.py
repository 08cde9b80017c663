"""Digests of base models that lie in local folders: DVC does not watch them, as params.yaml names them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest, looks
from components.files import write_json
from components.params import Base
from components.workspace import home, local_place

SEEN_FILE = "base-files.json"  # path -> what `looks` says, SHA-256: gigabytes are read once


def local_digests(base: Base) -> dict[str, str]:
    """SHA-256 of names and contents by setting, of what the chosen kind of base reads from local folders."""
    chosen = {
        "tiny": {},
        "compose": {"base.compose.vision": base.compose.vision, "base.compose.language": base.compose.language},
        "checkpoint": {"base.checkpoint.model": base.checkpoint.model},
    }[base.kind]
    places = {setting: Path(local_place(place)) for setting, place in chosen.items()}
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


def _looked_at(path: Path, seen: dict[str, list[Any]]) -> list[Any]:
    known, as_it_is = seen.get(str(path.resolve()), []), looks(path.stat())
    return known if known[:-1] == as_it_is else [*as_it_is, file_digest(path)]


def _seen() -> dict[str, list[Any]]:
    try:
        seen = json.loads((home() / SEEN_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):  # only a memory: made again
        return {}
    return {path: known for path, known in seen.items() if isinstance(known, list)} if isinstance(seen, dict) else {}
