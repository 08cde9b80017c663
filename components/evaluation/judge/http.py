"""One POST to a server that may misbehave: bounded in time and bytes, and never redirected.

A key goes to the server that it was given for and to no other: a redirect is an error that names where it leads. The
whole exchange ends within `seconds`, however slowly bytes arrive, because its socket is then shut down.
"""

from __future__ import annotations

import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

MOST_BYTES = 4 << 20  # of a reply; a judge's is some kilobytes
MOST_ERROR_BYTES = 2000  # of the body of an error
_CHUNK = 1 << 16


class Refused(Exception):
    """The server answered with an error. `detail`: the start of its body."""

    def __init__(self, code: int, detail: bytes, retry_after: str | None) -> None:
        super().__init__(f"HTTP {code}")
        self.code, self.detail, self.retry_after = code, detail, retry_after


class TooMuch(ValueError):
    """A reply of more than MOST_BYTES."""


def post(url: str, headers: Mapping[str, str], body: bytes, seconds: float) -> bytes:
    """The reply. Refused for an error or a redirect, TooMuch; OSError or HTTPException where the connection breaks."""
    watch = _Watch(seconds)
    request = urllib.request.Request(url, data=body, headers=dict(headers))
    opener = urllib.request.build_opener(_NoRedirect, _handler(watch))
    try:
        with opener.open(request, timeout=seconds) as response:
            reply = _read(response, MOST_BYTES)
    except urllib.error.HTTPError as error:
        with error:
            where = error.headers.get("Location") if 300 <= error.code < 400 else None
            detail = f"a redirect to {where}".encode() if where else error.read(MOST_ERROR_BYTES)
            raise Refused(error.code, detail, error.headers.get("Retry-After")) from None
    except (OSError, http.client.HTTPException, ValueError):
        if watch.over:
            raise TimeoutError(f"no whole reply within {seconds:.0f} s") from None
        raise
    finally:
        watch.stop()
    if watch.over:
        raise TimeoutError(f"no whole reply within {seconds:.0f} s")
    return reply


def _read(response: Any, most: int) -> bytes:
    parts, size = [], 0
    while part := response.read1(_CHUNK):
        size += len(part)
        if size > most:
            raise TooMuch(f"a reply of more than {most >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None  # the redirect becomes the HTTPError that it is


class _Watch:
    """Shuts down the sockets of an exchange once its time is over."""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def add(self, one: socket.socket) -> None:
        self._sockets.append(one.dup())  # TLS takes the socket itself over
        if self.over:
            self._end()

    def _end(self) -> None:
        self.over = True
        for one in self._sockets:
            with suppress(OSError):  # closed by the other side
                one.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._timer.cancel()
        for one in self._sockets:
            one.close()


def _handler(watch: _Watch) -> urllib.request.HTTPSHandler:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            watch.add(self.sock)

    class SecureConnection(http.client.HTTPSConnection, Connection):
        """HTTPSConnection connects by the next class, so the watch begins before the handshake."""

    class Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(Connection, req)

        def https_open(self, req: urllib.request.Request) -> Any:
            return self.do_open(SecureConnection, req)

    return Handler()
