"""Work done ahead of the step that needs it, in threads, without changing what any step gets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(make: Callable[[int], T], steps: Iterable[int], threads: int) -> Generator[T, None, None]:
    """`make(step)` for each step, in order, made in `threads` threads at most 2 * threads steps ahead.

    `make` must depend on the step alone. A position in the data is the number of steps handed out: what was
    made ahead and never taken is simply made again by a run that goes on. An error comes at its own step.
    """
    waiting = deque[Future[T]]()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    try:
        for step in steps:
            waiting.append(pool.submit(make, step))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
