"""The key of a server, as clients send it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from components.serving.guard import Guard
from components.serving.metrics import Metrics


def status(key: str, *headers: tuple[bytes, bytes]) -> int:
    """What a guard with this key answers; 200 where it lets the request through."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/models", "headers": [(b"host", b"localhost"), *headers]}
    asyncio.run(Guard(app, Metrics(), {"/"}, key, None)(scope, None, send))
    return sent[0]["status"]


@pytest.mark.parametrize("key", ["a secret", "schlüssel", "ключ", b"\xff\xfekey".decode(errors="surrogateescape")])
def test_a_key_is_compared_by_the_bytes_that_came(key):
    sent = key.encode(errors="surrogateescape")
    assert status(key, (b"authorization", b"Bearer " + sent)) == 200
    assert status(key, (b"Authorization", b"bearer  " + sent + b" ")) == 200
    assert status(key, (b"authorization", b"Bearer " + sent + b"x")) == 401
    assert status(key, (b"authorization", sent)) == 401
    assert status(key) == 401
