"""`lea serve` in a thread of the test's process, and requests to it."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import uvicorn
from PIL import Image

from components.serving.app import make_app
from components.serving.limits import Limits
from components.serving.metrics import Metrics
from components.serving.slots import Slots

MODEL = "lea@champion"
DEFAULTS = Limits()


@dataclass
class Running:
    slots: Slots
    port: int
    server: uvicorn.Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and answer; a body that is no bytes is sent as JSON."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        own = {"content-type": "application/json"} if body is not None else {}
        try:
            connection.request(method, path, data, {**own, **{k.replace("_", "-"): v for k, v in headers.items()}})
            got = connection.getresponse()
            text = got.read()
            return got.status, json.loads(text) if "json" in (got.getheader("content-type") or "") else text
        finally:
            connection.close()

    def chat(self, body: Any, **headers: str) -> tuple[int, Any]:
        return self.send("POST", "/v1/chat/completions", body, **headers)


@contextmanager
def running(
    models: Sequence[str] = (f"models:/{MODEL}",),
    limits: Limits = DEFAULTS,
    key: str | None = None,
) -> Iterator[Running]:
    slots = Slots(models, limits, Metrics())
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = make_app(slots, limits, key, ["127.0.0.1", "localhost"])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Running(slots, listening.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(20)
        slots.close()
        listening.close()


def data_url(shade: int = 7, size: tuple[int, int] = (40, 30)) -> str:
    stream = io.BytesIO()
    shades = [(p * shade) % 256 for p in range(256)]
    Image.linear_gradient("L").resize(size).point(shades).convert("RGB").save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def asking(text: str = "What is it?", image: str | None = None, **fields: Any) -> dict[str, Any]:
    parts: list[Any] = [{"type": "text", "text": text}]
    if image:
        parts.insert(0, {"type": "image_url", "image_url": {"url": image}})
    return {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": parts}], **fields}
