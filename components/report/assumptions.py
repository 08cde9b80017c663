"""What is assumed and what is unverified, as far as it touches this run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.params.trees import setting

ASSUMED_FILE = Path(__file__).with_name("assumed.yaml")


@dataclass(frozen=True)
class Assumption:
    what: str
    setting: str | None  # its name in params.yaml, where it can be changed


def assumptions(
    tree: Mapping[str, Any], tasks: Collection[str] | None = None, path: Path = ASSUMED_FILE
) -> tuple[list[Assumption], list[Assumption]]:
    """(assumed, unverified). What `applies` to other settings, or to `tasks` that were not asked, is left out."""
    listed = yaml.safe_load(path.read_text(encoding="utf-8"))
    assumed, unverified = (
        [Assumption(entry["what"], entry.get("setting")) for entry in listed[part] if _applies(entry, tree, tasks)]
        for part in ("assumed", "unverified")
    )
    return assumed, unverified


def _applies(entry: Mapping[str, Any], tree: Mapping[str, Any], tasks: Collection[str] | None) -> bool:
    asked = tasks is None or "task" not in entry or entry["task"] in tasks
    return asked and all(setting(tree, key) == value for key, value in entry.get("applies", {}).items())
