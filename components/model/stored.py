"""Names and descriptions of what is stored, readable without torch: starting workers must not wait for imports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from components.errors import UserError

REFERENCE_FILE = "base.json"  # which base a folder holds or refers to
CONNECTOR_FILE, ADAPTER_FOLDER, SETTINGS_FILE = "connector.safetensors", "adapter", "model.json"
LANGUAGE_FILE = "language_model.safetensors"


def read_reference(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / REFERENCE_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder / REFERENCE_FILE} is missing; run: dvc repro base") from None


def read_settings(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder / SETTINGS_FILE} is missing; run: dvc repro {folder.name}") from None
