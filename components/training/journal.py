"""What a run writes down while it goes: one JSON line per step, the same however often it was stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import write_text

METRICS_FILE = "metrics.jsonl"  # what each step learnt
TIMINGS_FILE = "timings.jsonl"  # what it took
VALIDATION_FILE = "validation.jsonl"  # what validation found after some of them
SKIPPED_FILE = "skipped.jsonl"  # the steps that nothing was learnt from: why, and of which samples


class Journal:
    """The files of a run's folder. At a resume they are cut back to what the checkpoint covers."""

    def __init__(self, folder: Path, covered: int) -> None:
        self._folder = folder
        for name in (METRICS_FILE, TIMINGS_FILE, SKIPPED_FILE, VALIDATION_FILE):
            kept = [line for line in read_journal(folder / name) if line["step"] <= covered]
            write_text(folder / name, "".join(json.dumps(line) + "\n" for line in kept))

    def write(self, learnt: dict[str, Any], took: dict[str, Any], skipped: dict[str, Any] | None = None) -> None:
        for name, line in ((SKIPPED_FILE, skipped), (TIMINGS_FILE, took), (METRICS_FILE, learnt)):
            if line is not None:
                append(self._folder / name, line)

    def settle(self) -> None:
        """Put all lines on the disk, before a checkpoint says that it covers them."""
        for name in (METRICS_FILE, TIMINGS_FILE, SKIPPED_FILE):
            with (self._folder / name).open("a", encoding="utf-8") as stream:
                os.fsync(stream.fileno())


def append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal; a last line that was cut off while it was written is left out."""
    if not path.exists():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
    except (ValueError, RecursionError) as error:  # a line within, not the last, that a kill cuts short
        raise damaged(path, str(error)) from None
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise damaged(path, f"line {number} is not that of a step")
    return lines


def damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}); remove {path.parent} and run the stage again")
