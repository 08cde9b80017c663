"""A real local server that speaks the OpenAI protocol, well and badly."""

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server:
    """Replies with `script(number, body)`: a reply's text, or (status, headers) of an error. Remembers requests."""

    def __init__(self) -> None:
        self.script: Callable[[int, dict[str, Any]], Any] = lambda number, body: "0.5"
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                owner.keys.append(self.headers.get("Authorization"))
                owner.bodies.append(body)
                said = owner.script(len(owner.bodies), body)
                status, headers = said if isinstance(said, tuple) else (200, {})
                answer: Any = {"choices": [{"message": {"content": said}}], "model": "stand-in-0314"}
                if status != 200:
                    answer = {"error": {"message": f"status {status}"}}
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
