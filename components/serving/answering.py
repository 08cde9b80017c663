"""One answer on its way to its caller: from the engine's thread to the server's loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import StreamingResponse

from components.serving.chat import Refused
from components.serving.replies import DONE, Completion, TextStream, event, usage

if TYPE_CHECKING:
    from components.serving.job import Job
    from components.serving.metrics import Metrics
    from components.serving.slots import Running


class Answer:
    """Its tokens as they come. `notify` is the engine's, all else the loop's."""

    def __init__(self, model: str, running: Running, metrics: Metrics, began: float) -> None:
        self._model, self._running, self._metrics, self._began = model, running, metrics, began
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[int | None] = asyncio.Queue()
        self.job: Job | None = None

    def notify(self, token: int | None) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._events.put_nowait, token)

    def begin(self, job: Job) -> None:
        self.job = job
        self._running.engine.submit(job)

    def leave(self) -> None:
        """The caller has gone or has all: the engine need not go on; what happened is counted."""
        job = self.job
        if job is None:
            return
        job.cancelled = True
        self._metrics.seconds.labels(self._model).observe(time.monotonic() - self._began)
        if job.began:
            self._metrics.first_token.labels(self._model).observe(job.began - self._began)
        self._metrics.tokens.labels(self._model, "prompt").inc(len(job.prompt))
        self._metrics.tokens.labels(self._model, "completion").inc(len(job.tokens))

    def usage(self) -> dict[str, int]:
        assert self.job is not None
        return usage(len(self.job.prompt), len(self.job.tokens))

    async def pieces(self) -> AsyncIterator[str]:
        """The text, piece by piece. Refused where the engine could not go on."""
        text = TextStream(self._running.decoder)
        ended = False
        while not ended:
            tokens = [await self._events.get()]
            while not self._events.empty():
                tokens.append(self._events.get_nowait())
            ended = tokens[-1] is None
            piece = text.push([token for token in tokens if token is not None])
            if piece:
                yield piece
        self._check()
        rest = text.finish()
        if rest:
            yield rest

    async def text(self, request: Request) -> str:
        """The whole text, once it is there; ends early where the caller hangs up."""
        assert self.job is not None
        waiting = {asyncio.ensure_future(self._events.get()), asyncio.ensure_future(_hung_up(request))}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        if not self.job.finish and not self.job.failure:
            raise Refused("the caller has gone", status=499)
        self._check()
        whole = TextStream(self._running.decoder)
        whole.push(self.job.tokens)
        return whole.whole

    def _check(self) -> None:
        job = self.job
        assert job is not None
        if job.timed_out:
            raise Refused(job.failure or "", status=504, code="timeout")
        if job.failure:
            raise Refused(f"the model could not answer: {job.failure}", status=500)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """A stream that gives back what it holds, even if its first byte cannot be sent."""

    held: ExitStack

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        with self.held:
            await super().__call__(scope, receive, send)


def stream_response(answer: Answer, completion: Completion, include_usage: bool, held: ExitStack) -> _Stream:
    """Server-sent events: the role, pieces of text, why it ended, the usage where it is asked for, [DONE]."""

    async def events() -> AsyncIterator[bytes]:
        yield completion.chunk({"role": "assistant", "content": ""})
        try:
            async for piece in answer.pieces():
                yield completion.chunk({"content": piece})
        except Refused as error:  # the status is sent already
            yield event(error.body())
            return
        assert answer.job is not None
        yield completion.chunk({}, answer.job.finish)
        if include_usage:
            yield completion.usage_chunk(answer.usage())
        yield DONE

    headers = {"x-lea-version": completion.version, "cache-control": "no-cache"}
    response = _Stream(events(), media_type="text/event-stream", headers=headers)
    response.held = held
    return response
