"""SHA-256 of local files, remembered: gigabytes are read once."""

from __future__ import annotations

import json
from pathlib import Path

from components.digests import file_digest, looks
from components.files import write_text


class Digests:
    """SHA-256 of local files; one that `looks` as it did is not read again, whatever links lead to it."""

    def __init__(self, memory: Path | None = None) -> None:
        """memory: a file that keeps them from one process to the next."""
        self._memory = memory
        self._seen: dict[str, list] = {}
        if memory is not None and memory.is_file():
            try:
                self._seen = json.loads(memory.read_text(encoding="utf-8"))
            except ValueError:  # only a memory: made again
                self._seen = {}

    def of(self, file: Path) -> str:
        key, as_it_is, value = self._known(file)
        if value is None:
            value = file_digest(file)
            self._seen[key] = [*as_it_is, value]
        return value

    def knows(self, file: Path) -> bool:
        return self._known(file)[2] is not None

    def _known(self, file: Path) -> tuple[str, list[int], str | None]:
        """The key of a file: a new link to it changes its inode's time, for all its names at once."""
        stat = file.stat()
        key, as_it_is = f"{stat.st_dev}:{stat.st_ino}", looks(stat)
        known = self._seen.get(key)
        return key, as_it_is, known[-1] if known and known[:-1] == as_it_is else None

    def keep(self) -> None:
        if self._memory is not None:
            write_text(self._memory, json.dumps(self._seen))
