"""SHA-256 of local files, remembered: gigabytes are read once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from components.digests import file_digest, looks
from components.files import write_text


class Digests:
    """SHA-256 of local files by resolved path; one that `looks` as it did is not read again.

    No inode is a key: some file systems (FUSE) number their files anew at each mount.
    """

    def __init__(self, memory: Path | None = None) -> None:
        """memory: a file that keeps them from one process to the next."""
        self._memory = memory
        self._seen = _read(memory) if memory is not None else {}

    def of(self, file: Path) -> str:
        key, as_it_is, value = self._known(file)
        if value is None:
            value = file_digest(file)
            self._seen[key] = [*as_it_is, value]
        return value

    def knows(self, file: Path) -> bool:
        return self._known(file)[2] is not None

    def note(self, file: Path, value: str) -> None:
        """Remember the digest of a file that has just been compared with it."""
        self._seen[str(file.resolve())] = [*looks(file.stat()), value]

    @contextmanager
    def linking(self, links: Mapping[Path, Path]) -> Iterator[None]:
        """Around the making of hard links: what is known of a file holds under all its names, old and new.

        Each new link changes the time of the inode, which is all names' time.

        Args:
            links: new name -> the file that it leads to.
        """
        before = {file: self._known(file) for file in set(links.values())}
        yield
        now: dict[tuple[int, ...], list[int]] = {}
        for file, (_, was, _value) in before.items():
            as_it_is = looks(file.stat())
            if _differ_in_time_only(was, as_it_is):
                now[tuple(was)] = as_it_is
        for key, (*was, value) in list(self._seen.items()):
            if tuple(was) in now:
                self._seen[key] = [*now[tuple(was)], value]
        for name, file in links.items():
            _, was, value = before[file]
            if value is not None and looks(name.stat()) == now.get(tuple(was)):
                self._seen[str(name.resolve())] = [*now[tuple(was)], value]

    def _known(self, file: Path) -> tuple[str, list[int], str | None]:
        key, as_it_is = str(file.resolve()), looks(file.stat())
        known = self._seen.get(key)
        return key, as_it_is, known[-1] if known and known[:-1] == as_it_is else None

    def keep(self) -> None:
        """Write the memory, without the files that are gone."""
        if self._memory is not None:
            self._seen = {path: known for path, known in self._seen.items() if Path(path).is_file()}
            write_text(self._memory, json.dumps(self._seen))


def _differ_in_time_only(was: list[int], now: list[int]) -> bool:
    """Whether two `looks` are the same but for the time of the last change of the inode."""
    return [*was[:2], was[3]] == [*now[:2], now[3]]


def _read(memory: Path) -> dict[str, list]:
    """What a memory holds: path -> what `looks` says, SHA-256."""
    try:
        seen = json.loads(memory.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):  # only a memory: made again
        return {}
    if not isinstance(seen, dict):
        return {}
    return {path: known for path, known in seen.items() if isinstance(known, list) and len(known) > 1}
