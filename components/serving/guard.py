"""What every request passes before a route sees it: the host's name, the key; and what every answer carries."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from components.serving.chat import Refused
from components.serving.metrics import Metrics

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
PATHS = ("/", "/v1/chat/completions", "/v1/heat-map", "/v1/models", "/health", "/metrics")


class Guard:
    """ASGI around the application.

    hosts: names by which the server may be called, None for any. A page of another site that a browser holds can reach
    a loopback server under a name of its own; it is not answered.
    """

    def __init__(self, app: Any, metrics: Metrics, open_paths: set[str], key: str | None, hosts: list[str] | None):
        self._app, self._metrics, self._open, self._key, self._hosts = app, metrics, open_paths, key, hosts

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(path, str(message["status"])).inc()
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        refused = self._refused(scope)
        if refused is None:
            await self._app(scope, receive, answer)
        else:
            await _reply(refused, answer)

    def _refused(self, scope: Message) -> Refused | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self._hosts is not None and _name(host) not in self._hosts:
            return Refused(f"this server is not called {host[:60]!r}", status=421)
        if self._key is None or scope["path"] in self._open:
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        sent = given.strip().encode("latin-1")  # the bytes that came: a key beyond ASCII is sent as UTF-8
        if scheme.lower() == "bearer" and hmac.compare_digest(sent, os.fsencode(self._key)):
            return None
        return Refused("a key is needed: Authorization: Bearer KEY", status=401, code="invalid_api_key")


def _name(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0].lower()


async def _reply(refused: Refused, send: Send) -> None:
    body = json.dumps(refused.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
