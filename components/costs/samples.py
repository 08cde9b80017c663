"""How many samples an epoch has: counted in what is prepared, else as far as it is known before.

Known before are the synthetic domain, which this project draws, and the published data sets that a profile names.
Both are recognised by the whole entry in `data.sources`: a source of one's own may bear any name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.errors import UserError
from components.params import Params, Recipe, Source, profiles
from components.workspace import MANIFEST, PREPARED, RAW, SPLITS_SUMMARY

LOCK = Path("dvc.lock")  # the settings with which a source was prepared

# Samples of each task that an image makes: of the sets that are drawn, and of the sources in the profiles.
EACH: dict[str, dict[str, int]] = {
    "captions": {"caption": 1},
    "llava_558k": {"caption": 1},
    "capsfusion": {"caption": 1},
    "mix665k": {"chat": 1},
    "unifood": {"ingredients": 1, "recipe": 1, "nutrition": 1},
    "scienceqa": {"choice": 1},
    "flickr30k": {"caption": 5},
}
PUBLISHED = {  # images or records
    "llava_558k": 558_000,
    "capsfusion": 30_000_000,  # pairs that VLoRA trains on
    "mix665k": 665_000,
    "unifood": 100_000,
    "flickr30k": 31_783,
}
DECLARED = {"scienceqa": 12_726}  # its publisher declares the training split


def num_samples(params: Params, recipe: Recipe, root: Path = Path()) -> int | None:
    """Training samples per epoch of the wanted tasks, or None where a source's size is not known here.

    `root` is the folder of the workspace.
    """
    total = 0
    for source in recipe.sources:
        tasks = _prepared(params, source, root) or _expected(params, source)
        if tasks is None:
            return None
        total += round(sum(n for task, n in tasks.items() if not recipe.tasks or task in recipe.tasks))
    if not total:
        raise UserError(f"params.yaml: {', '.join(recipe.sources)} hold no samples of tasks {', '.join(recipe.tasks)}")
    return total


def is_prepared(params: Params, source: str, root: Path = Path()) -> bool:
    """Whether the source was prepared with these settings."""
    there = (root / PREPARED / source / MANIFEST).is_file()
    return there and _settings_prepared_with(root, source) == params.data.sources[source]


def _prepared(params: Params, source: str, root: Path) -> dict[str, float] | None:
    """Training samples by task of a source that was prepared with these settings; None where it was not."""
    manifest = _read_json(root / PREPARED / source / MANIFEST)
    if not manifest or not is_prepared(params, source, root):
        return None
    split = (_read_json(root / SPLITS_SUMMARY) or {}).get(source, {})
    if split and sum(of_split["rows"] for of_split in split.values()) == manifest["rows"]:
        return {task: n for task, n in split.get("train", {}).items() if task != "rows"}
    return {task: n * _train_share(params) for task, n in manifest["tasks"].items()}


def _expected(params: Params, source: str) -> dict[str, float] | None:
    """Training samples by task of a set that will be drawn, or of a published data set."""
    spec = params.data.sources[source]
    sets: dict[str, int] = {**params.plates.sets}
    drawn = next((name for name in sets if spec.path == str(RAW / f"plates_{name}")), None)
    if drawn is not None:
        name, images = drawn, sets[drawn] * _train_share(params)
    elif spec not in _of_profiles(source):
        return None
    elif source in DECLARED:
        name, images = source, float(DECLARED[source])
    elif source in PUBLISHED:
        name, images = source, PUBLISHED[source] * _train_share(params)
    else:
        return None
    return {task: images * n for task, n in EACH[name].items()}


def _train_share(params: Params) -> float:
    return 1 - params.data.splits.validation - params.data.splits.test


def _of_profiles(source: str) -> list[Source]:
    """The entries that the profiles have under this name."""
    tables = [profiles.overlay(name)["data"]["sources"] for name in profiles.names()]
    return [Source.model_validate(table[source]) for table in tables if source in table]


def _settings_prepared_with(root: Path, source: str) -> Source | None:
    try:
        lock: Any = yaml.safe_load((root / LOCK).read_text(encoding="utf-8"))
        return Source.model_validate(
            lock["stages"][f"prepare@{source}"]["params"]["params.yaml"][f"data.sources.{source}"]
        )
    except (OSError, ValueError, yaml.YAMLError, LookupError, TypeError, RecursionError):
        return None  # never prepared by DVC, or a lock in the middle of a merge


def _read_json(path: Path) -> Mapping[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
