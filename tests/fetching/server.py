"""A file server on loopback that can be as bad as the worst on the internet."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class FileServer:
    """Serves `files` by path, with ranges. `act(handler, number)` may answer instead, and then returns True."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.seen: list[dict[str, str]] = []  # headers of each request, and its path
        self.act: Callable[[Any, int], bool] = lambda handler, number: False
        self.cut_after: int | None = None  # bytes of a reply, then the connection ends
        self.ranges = True
        self.bytes_a_second: float | None = None
        self.etags = True
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.seen.append({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}})
                if not owner.act(self, len(owner.seen)):
                    owner.serve(self)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.handle_error = lambda request, client_address: None  # clients leave on purpose
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def serve(self, handler: Any) -> None:
        data = self.files.get(handler.path.partition("?")[0])
        if data is None:
            handler.send_error(404)
            return
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        span = handler.headers.get("Range")
        start = int(span.removeprefix("bytes=").rstrip("-")) if span and self.ranges else 0
        if handler.headers.get("If-Range") not in (None, tag):
            start = 0
        headers = {"ETag": tag} if self.etags else {}
        if start >= len(data) > 0:
            reply(handler, 416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._send(handler, 206 if start else 200, data[start:], headers)

    def _send(self, handler: Any, status: int, body: bytes, headers: dict[str, str]) -> None:
        head(handler, status, {**headers, "Content-Length": str(len(body))})
        body = body[: self.cut_after]
        if self.bytes_a_second is None:
            handler.wfile.write(body)
        else:
            step = max(1, int(self.bytes_a_second / 20))
            for start in range(0, len(body), step):
                handler.wfile.write(body[start : start + step])
                time.sleep(step / self.bytes_a_second)
        handler.close_connection = True


def head(handler: Any, status: int, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()


def reply(handler: Any, status: int, body: bytes, headers: dict[str, str]) -> bool:
    head(handler, status, {"Content-Length": str(len(body)), **headers})
    handler.wfile.write(body)
    handler.close_connection = True
    return True


@contextmanager
def serving() -> Iterator[FileServer]:
    server = FileServer()
    thread = Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()


def as_hub(server: FileServer, repository: str, files: dict[str, bytes], large: frozenset[str] = frozenset()) -> None:
    """The server answers as the Hugging Face hub does: the list of a repository, and its files at a commit."""
    commit = "c" * 40
    listed = []
    for name, data in files.items():
        sibling: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": blob(data)}
        if name in large:
            sibling["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        listed.append(sibling)
        server.files[f"/{repository}/resolve/{commit}/{name}"] = data
    info = {"id": repository, "modelId": repository, "sha": commit, "siblings": listed, "tags": [], "private": False}
    info |= {"downloads": 0, "likes": 0}
    server.files[f"/api/models/{repository}"] = json.dumps(info).encode()


def blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
