"""The HTTP side of `lea serve`: OpenAI's chat completions, models, health, metrics, the page."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from components.serving.answering import Answer, stream_response
from components.serving.chat import Refused, parse_chat, parse_image, parse_json, parse_model
from components.serving.guard import Guard
from components.serving.limits import Limits
from components.serving.metrics import Metrics
from components.serving.prepare import make_job
from components.serving.replies import Completion
from components.serving.slots import Running, Slot, Slots

DECODING = 2  # images that are decoded at a time: each may take hundreds of megabytes
BODIES = 8  # times the largest body: what all requests may hold before they are read
POLL_S = 5.0  # how often the alias is looked at
STATIC = Path(__file__).parent / "page"
PAGE = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}


class Server:
    """What the routes share."""

    def __init__(self, slots: Slots, limits: Limits, metrics: Metrics) -> None:
        self.slots, self.limits, self.metrics = slots, limits, metrics
        self.in_flight = self.body_bytes = 0
        self.decoding = asyncio.Semaphore(DECODING)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the requests that wait or are answered; 429 where there is none."""
        if self.in_flight >= self.limits.max_queue:
            raise Refused("the server is busy; ask again in a moment", status=429, code="queue_full")
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def body(self, request: Request) -> dict[str, Any]:
        """The JSON object of a request, read within the limits of bytes and time."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused("content-type must be application/json", status=415)
        coding = request.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise Refused(f"content-encoding {coding[:40]} is not read here; send the body as it is", status=415)
        data = bytearray()
        try:
            async with asyncio.timeout(self.limits.timeout_s):
                async for chunk in request.stream():
                    data += chunk
                    self.body_bytes += len(chunk)
                    if len(data) > self.limits.max_body_bytes:
                        raise Refused(f"the body has more than {self.limits.max_body_bytes:,} bytes", status=413)
                    if self.body_bytes > BODIES * self.limits.max_body_bytes:
                        raise Refused("the server is busy; ask again in a moment", status=429, code="queue_full")
        except TimeoutError:
            raise Refused("the body did not come in time", status=408) from None
        finally:
            self.body_bytes -= len(data)
        return await asyncio.to_thread(parse_json, bytes(data))

    def slot(self, model: str) -> Slot:
        found = self.slots.find(model)
        if found is None:
            known = ", ".join(self.slots.by_id)
            raise Refused(f"no model {model[:60]!r} here; there is {known}", "model", 404, "model_not_found")
        return found

    def _usual_tokens(self, running: Running) -> int:
        """Of an answer whose request names no number."""
        return min(running.loaded.answering["max_new_tokens"], self.limits.max_new_tokens)

    async def chat(self, request: Request) -> Response:
        began = time.monotonic()
        with ExitStack() as held:
            held.enter_context(self.place())
            asked = await asyncio.to_thread(parse_chat, await self.body(request), self.limits)
            slot = self.slot(asked.model)
            running = held.enter_context(slot.use())
            answer = Answer(slot.id, running, self.metrics, began)
            try:
                async with self.decoding:
                    job = await asyncio.to_thread(
                        make_job,
                        running.engine,
                        asked.turns,
                        asked.image,
                        max_new_tokens=asked.max_new_tokens or self._usual_tokens(running),
                        notify=answer.notify,
                        stream=asked.stream,
                        system=asked.system,
                        deadline=began + self.limits.timeout_s,
                    )
            except ValueError as error:
                raise Refused(str(error), "messages") from None
            held.callback(answer.leave)
            answer.begin(job)
            completion = Completion(slot.id, running.name)
            if asked.stream:
                return stream_response(answer, completion, asked.include_usage, held.pop_all())
            text = await answer.text(request)
            whole = completion.whole(text, job.finish or "stop", answer.usage())
            return JSONResponse(whole, headers=_version_header(running))

    async def heat_map(self, request: Request) -> Response:
        """Where the visual cue of an image is strong: {"strength": rows of numbers 0..1, or null without VCE}."""
        with ExitStack() as held:
            held.enter_context(self.place())
            tree = await self.body(request)
            slot = self.slot(parse_model(tree))
            image = await asyncio.to_thread(parse_image, tree.get("image_url"), "body")
            running = held.enter_context(slot.use())
            try:
                async with self.decoding:
                    found = await asyncio.wait_for(_heat_map(running, image, self.limits), self.limits.timeout_s)
            except ValueError as error:
                raise Refused(str(error), "image_url") from None
            except TimeoutError:
                raise Refused("the image was not read in time", status=504, code="timeout") from None
            return JSONResponse(found, headers=_version_header(running))

    async def models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [_about(slot) for slot in self.slots.by_id.values()]})

    async def model(self, request: Request) -> Response:
        return JSONResponse(_about(self.slot(request.path_params["model"])))

    async def health(self, request: Request) -> Response:
        models = {slot.id: slot.running.name for slot in self.slots.by_id.values()}
        return JSONResponse({"status": "ok", "models": models})

    async def prometheus(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / PAGE[request.url.path], headers={"cache-control": "no-cache"})

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        following = asyncio.create_task(self._follow())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        self.slots.close()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.slots.follow)


async def _heat_map(running: Running, image: bytes, limits: Limits) -> dict[str, Any]:
    from components.evaluation.insight.heat_map import cue_strength
    from components.serving.request_image import decode_for_caller

    assistant = running.engine.assistant
    picture = await asyncio.to_thread(decode_for_caller, image, limits.max_pixels)
    strength = await asyncio.wrap_future(running.engine.call(lambda: cue_strength(assistant, picture)))
    if strength is None:
        return {"strength": None, "image": assistant.image}
    spread = float(strength.max() - strength.min()) or 1.0
    return {"strength": ((strength - strength.min()) / spread).round(4).tolist(), "image": assistant.image}


def _version_header(running: Running) -> dict[str, str]:
    return {"x-lea-version": running.name}


def _about(slot: Slot) -> dict[str, Any]:
    loaded = slot.running.loaded
    known = {
        "version": loaded.version,
        "digest": loaded.digest,
        "base": loaded.base,
        "adapter": loaded.adapter,
        "metrics": loaded.metrics,
        "max_new_tokens": loaded.answering["max_new_tokens"],
    }
    return {"id": slot.id, "object": "model", "created": 0, "owned_by": "lea", "root": slot.running.name, "lea": known}


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    headers = {"retry-after": "1"} if error.status == 429 else {}
    if error.status in (408, 413, 415, 429):
        headers["connection"] = "close"  # the rest of the body is not read
    return JSONResponse(error.body(), error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    line = f"{request.method} {request.url.path[:60]}: {error.detail.lower()}"
    return JSONResponse(Refused(line, status=error.status_code).body(), error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=400)


async def _our_fault(request: Request, error: Exception) -> Response:
    traceback.print_exception(error)
    return JSONResponse(Refused("the server failed; its log says why", status=500).body(), 500)


def make_app(slots: Slots, limits: Limits, key: str | None = None, hosts: list[str] | None = None) -> Any:
    """The application; `key` guards all but the page and /health, `hosts` are the names it may be called by."""
    metrics = slots.metrics
    server = Server(slots, limits, metrics)
    routes = [
        Route("/v1/chat/completions", server.chat, methods=["POST"]),
        Route("/v1/heat-map", server.heat_map, methods=["POST"]),
        Route("/v1/models", server.models),
        Route("/v1/models/{model:path}", server.model),
        Route("/health", server.health),
        Route("/metrics", server.prometheus),
        *[Route(path, server.page) for path in PAGE],
    ]
    handlers: dict[Any, Any] = {
        Refused: _refused, HTTPException: _http_error, ClientDisconnect: _gone, Exception: _our_fault
    }  # fmt: skip
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=server.lifespan)
    return Guard(app, metrics, {*PAGE, "/health"}, key, hosts)
