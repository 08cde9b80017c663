"""What a source's reader yields: an image's name with its samples, or a record that cannot be used."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from components.data.schema import Sample
from components.errors import UserError
from components.files import expanded
from components.images.names import is_companion
from components.params import Source

Split = Literal["train", "validation", "test"]

_SPLITS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "restval"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "testa", "testb", "testdev", "teststd", "eval", "evaluation", "holdout", "heldout"),
}
_SPLIT_OF: dict[str, Split] = {name: split for split, names in _SPLITS.items() for name in names}


@dataclass(frozen=True)
class Entry:
    """The samples of one image, which is read later by its name; or of none.

    `group` is the same for all that must not be divided between splits. It starts with the kind of the
    source, so that one dish read by two sources is one group and chance equal ids are not.
    """

    image: str | None
    group: str
    samples: list[Sample]
    split: Split | None = None


@dataclass(frozen=True)
class Reject:
    """A record left out: its id, a code of checks.REASONS, and what was found.

    `expected`: listed and counted like the others, but not against the share that may be rejected, since nothing is
    damaged (an annotation whose photo its publisher never took).
    """

    id: str
    reason: str
    detail: str = ""
    expected: bool = False


class Malformed(ValueError):
    """A record that does not have its source's form; the message says how, `reason` is a code of checks.REASONS."""

    def __init__(self, message: str, reason: str = "record_malformed"):
        super().__init__(message)
        self.reason = reason


def declared_split(name: Any) -> Split | None:
    """The split a publisher names, also as `Test`, `val2014` or `test-dev`; other names (mini sets) declare nothing."""
    if not isinstance(name, str):
        return None
    return _SPLIT_OF.get(re.sub(r"[\W_]|(?:19|20)\d\d$", "", name.lower()))


def record_id(record: Mapping[str, Any], fallback: str) -> str:
    """Ids come as text or numbers, or not at all."""
    return as_id(record.get("id")) or fallback


def as_id(value: Any) -> str | None:
    """Text or a number as an id, None for anything else. Tables with an empty cell make 12.0 of 12."""
    if isinstance(value, float):
        whole = value.is_integer()  # not so of nan and inf
        return str(int(value)) if whole else str(value) if math.isfinite(value) else None
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def text_of(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise Malformed(f"{key} must be text, found {type(value).__name__}")
    return value


def number_of(value: Any) -> float | None:
    """A finite number, or None for everything else (true and false are no numbers)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def source_root(spec: Source) -> Path:
    """The source's folder, with environment variables put in. In a whole path that is there, `$` is a letter."""
    literal = Path(spec.path)
    if literal.is_absolute() and literal.is_dir():
        return literal
    path = os.path.expandvars(spec.path)
    unset = re.search(r"\$\{?(\w+)\}?", path)
    if unset:
        raise UserError(f"{spec.path}: the environment variable {unset[1]} is not set; set it to a folder")
    root = expanded(path, "data.sources: path")
    if not root.is_dir():
        raise UserError(f"{path} is missing; run: dvc repro plates, or put the files there (docs/tutorial.md)")
    return root


def annotation_files(spec: Source) -> list[Path]:
    """The files that the source's pattern matches, in the order of their names; at least one."""
    root = source_root(spec)
    if Path(spec.annotations).is_absolute():
        raise UserError(f"annotations must be a pattern under {root}, got {spec.annotations!r}")
    try:
        files = sorted(path for path in root.glob(spec.annotations) if path.is_file() and _is_meant(path, root, spec))
    except (ValueError, IndexError):  # nothing, `.`, or ** beside other letters
        raise UserError(f"annotations must be as a.json, *.json or **/*.json, got {spec.annotations!r}") from None
    if not files:
        raise UserError(f"{root} holds no file {spec.annotations!r}; put it there or change the source's annotations")
    return files


def _is_meant(path: Path, root: Path, spec: Source) -> bool:
    """Not what systems and editors put there: `**` also leads into .ipynb_checkpoints, where older copies lie."""
    name = os.path.relpath(path, root)
    hidden = any(part.startswith(".") and part != ".." for part in Path(name).parts)
    named = any(part.startswith(".") and part != ".." for part in Path(spec.annotations).parts)
    return not is_companion(name) and (named or not hidden)


def files_and_splits(spec: Source) -> list[tuple[Path, Split | None]]:
    """The annotation files, with the splits that their names declare where these differ: train.json, val/a.json.

    A single train.json declares nothing: it is all that there is.
    """
    root, files = source_root(spec), annotation_files(spec)
    splits: list[Split | None] = [_split_in(os.path.relpath(path, root)) for path in files]
    declared = len(set(splits) - {None}) > 1
    return [(path, split if declared else None) for path, split in zip(files, splits, strict=True)]


def _split_in(name: str) -> Split | None:
    """The one split that a word of the path names."""
    words = map(declared_split, re.split(r"[\W_]+", name))
    found: set[Split] = {split for split in words if split is not None}
    return found.pop() if len(found) == 1 else None
