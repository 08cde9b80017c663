"""One answer to be given, as the engine sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Job:
    """One answer.

    Attributes:
        prompt: token ids. `shared` of them, with the image, are what other questions about it begin with.
        image: its key, None for text alone; pixels: (1, 3, height, width), read only where the key is not known.
        notify: called in the engine's thread with a new token (where `stream`), and at the end with None.
        finish: "stop" or "length" once it has ended well, else `failure` says why not.
    """

    prompt: Sequence[int]
    shared: int
    image: Hashable | None
    pixels: Callable[[], Tensor] | None
    max_new_tokens: int
    deadline: float  # time.monotonic()
    notify: Callable[[int | None], None]
    stream: bool = False
    tokens: list[int] = field(default_factory=list)
    finish: str | None = None
    failure: str | None = None
    timed_out: bool = False
    cancelled: bool = False
    began: float = 0.0  # time.monotonic() of its first token

    @property
    def key(self) -> Hashable:
        """The image and the tokens read with it."""
        return (self.image, tuple(self.prompt[: self.shared]))

    @property
    def is_going(self) -> bool:
        return self.finish is None and self.failure is None

    def check(self) -> bool:
        """Whether it may go on; ended where its caller has gone or its time is over."""
        if self.cancelled:
            self.end(failure="the caller has gone")
        elif time.monotonic() > self.deadline:
            self.timed_out = True
            self.end(failure="no answer within the time that the server allows")
        return self.is_going

    def end(self, *, finish: str | None = None, failure: str | None = None) -> None:
        self.finish, self.failure = finish, failure
        self.pixels = None
        self.notify(None)
