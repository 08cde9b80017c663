"""A conversation as a job of the engine: tokens, and the image's pixels."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile

from components.data.schema import Turn
from components.images.transforms import pixel_values
from components.serving.engine import Engine
from components.serving.job import Job
from components.serving.limits import context_length
from components.serving.request_image import decode_for_caller

# A fast tokenizer must not be used by two threads: "Already borrowed".
_TOKENIZING = threading.Lock()


def make_job(
    engine: Engine,
    turns: str | Sequence[Turn],
    image: bytes | None,
    *,
    max_new_tokens: int,
    notify: Callable[[int | None], None],
    stream: bool = False,
    system: str | None = None,
    deadline: float | None = None,
) -> Job:
    """ValueError in one line where the conversation or the image is not one that the model can take."""
    turns = [Turn("human", turns)] if isinstance(turns, str) else turns
    prompt, shared = _tokens(engine, turns, image is not None, system)
    room = context_length(engine.assistant) - max_new_tokens
    if len(prompt) > room:
        raise ValueError(
            f"the prompt has {len(prompt)} tokens; with {max_new_tokens} for the answer the model has room for "
            f"{max(room, 0)}"
        )
    key = hashlib.sha256(image).hexdigest() if image is not None else None
    job = Job(prompt, shared, key, None, max_new_tokens, deadline or time.monotonic() + 3600, notify, stream)
    if image is None:
        return job
    if job.key in engine.images:  # it may be gone again when the job's turn comes
        job.pixels = lambda: _pixels(engine, image)
    else:
        pixels = _pixels(engine, image)
        job.pixels = lambda: pixels
    return job


def _pixels(engine: Engine, image: bytes):
    assistant = engine.assistant
    picture = decode_for_caller(image, engine.limits.max_pixels)
    return pixel_values([picture], assistant.image_processor, assistant.image)


def _tokens(engine: Engine, turns: Sequence[Turn], has_image: bool, system: str | None) -> tuple[list[int], int]:
    """The prompt, and how many of its tokens every first question has with this system text and image."""
    encoder = engine.assistant.encoder
    if system is not None:
        if encoder.template != "v1":
            raise ValueError(f"this model's template ({encoder.template}) takes no system message")
        encoder = replace(encoder, system=system)
    with _TOKENIZING:
        prompt = encoder.encode(turns, has_image, sys.maxsize).ids
        others = [encoder.prompt(letter, has_image) for letter in "ab"] if has_image else []
    same = takewhile(lambda tokens: len(set(tokens)) == 1, zip(prompt[:-1], *others, strict=False))
    return prompt, sum(1 for _ in same) if has_image else 0
