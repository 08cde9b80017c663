"""Names and descriptions of what is stored, readable without torch: starting workers must not wait for imports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest
from components.errors import UserError
from components.files import read_json

REFERENCE_FILE = "base.json"  # which base a folder holds or refers to
CONNECTOR_FILE, ADAPTER_FOLDER, SETTINGS_FILE = "connector.safetensors", "adapter", "model.json"
LANGUAGE_FILE = "language_model.safetensors"
PARTS = (SETTINGS_FILE, CONNECTOR_FILE, ADAPTER_FOLDER, LANGUAGE_FILE)  # of a trained model, as far as they are there


def model_digest(parts: Path) -> str:
    """SHA-256 over the files of a trained model; model.json among them names the base by its digest."""
    files = []
    for name in PARTS:
        found = [parts / name] if (parts / name).is_file() else sorted((parts / name).rglob("*"))
        files += [path for path in found if path.is_file() and path.suffix != ".md"]  # PEFT writes a README
    return digest([[path.relative_to(parts).as_posix(), file_digest(path)] for path in files])


def read_reference(folder: Path) -> dict[str, Any]:
    """Which base a folder holds or refers to: kind, id, revision, digest."""
    return read_json(folder / REFERENCE_FILE, "run: dvc repro base", ("kind", "id", "revision", "digest"))


def path_free(reference: Mapping[str, Any]) -> dict[str, Any]:
    """A reference as a trained model states it: never where the base lay nor what that folder was called, so that equal
    weights make equal files.

    A hub id with its revision stays one that can be loaded; a folder's files are known by their digest alone.
    """
    return {**reference, "id": reference["id"] if reference["revision"] else reference["kind"]}


def read_settings(folder: Path) -> dict[str, Any]:
    """What the parts of a trained model are, and what they were trained on."""
    remedy = f"run: dvc repro {folder.name}"
    settings = read_json(folder / SETTINGS_FILE, remedy, ("base", "adapter"))
    base, adapter = settings["base"], settings["adapter"]
    if not (isinstance(base, dict) and isinstance(base.get("digest"), str) and isinstance(adapter, dict | None)):
        raise UserError(f"{folder / SETTINGS_FILE}: base or adapter is not as it is written; remove it, then {remedy}")
    return settings
