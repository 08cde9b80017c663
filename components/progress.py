"""Progress that a person can follow: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

T = TypeVar("T")
LINE_EVERY_S = 10.0
MB = 10**6


def print_table(table: Table, title: str) -> None:
    """Print a table under its title, unbroken where the output is no terminal."""
    console = Console() if sys.stdout.isatty() else Console(width=160)
    console.print(title, highlight=False)
    console.print(table)


class Bar:
    """Progress of one piece of work: `with Bar("pretrain", total=300) as bar: bar.at(40, "loss 2.1")`."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what, self.total = what, total
        self.done = 0
        self._since = self._line_at = self._first_at = time.monotonic()
        self._first = 0  # done at the first report: the start-up before it says nothing about the pace
        self._live: Progress | None = None

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._live = Progress(*columns, console=Console(stderr=True))
            self._live.start()
            self._task = self._live.add_task(self.what, total=self.total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
        elif self.done and kind is None:
            print(
                f"{self.what}: {self.done} done in {time.monotonic() - self._since:.0f} s", file=sys.stderr, flush=True
            )

    def at(self, done: int, note: str = "") -> None:
        """Say that `done` of the total are done."""
        if not self.done and done:
            self._first, self._first_at = done, time.monotonic()
        self.done = done
        if self._live:
            self._live.update(self._task, completed=done, note=note)
            return
        now = time.monotonic()
        if now - self._line_at < LINE_EVERY_S:
            return
        self._line_at = now
        left = ""
        if self.total and done > self._first:
            left = f", {(now - self._first_at) / (done - self._first) * (self.total - done):.0f} s left"
        of = f"/{self.total}" if self.total else ""
        print(f"{self.what}: {done}{of}{left}{'  ' + note if note else ''}", file=sys.stderr, flush=True)


@contextmanager
def by_bytes(title: str, files: Mapping[str, Path]) -> Iterator[Callable[[str, int], None]]:
    """Yield what is called with a file's key and how many bytes of it are done; their sum is shown, under a title."""
    if not title or not files:
        yield lambda key, num_bytes: None
        return
    done = dict.fromkeys(files, 0)
    with Bar(f"{title}, MB", sum(path.stat().st_size for path in files.values()) // MB) as bar:

        def at(key: str, num_bytes: int) -> None:
            done[key] = num_bytes
            bar.at(sum(done.values()) // MB)

        yield at


def track(iterable: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Yield what `iterable` yields and show how far it is."""
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # pyright: ignore[reportArgumentType]
    with Bar(what, total) as bar:
        for number, item in enumerate(iterable, start=1):
            yield item
            bar.at(number)
