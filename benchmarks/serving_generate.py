"""Hugging Face's `generate`, one request at a time, in the form of MLflow's server: what one would write at first."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

from components.images.decoding import decode
from components.images.transforms import pixel_values
from components.serving.loading import find_version, load_version
from components.serving.request_image import image_bytes

MAX_PIXELS = 50_000_000


def generate(assistant: Any, image: str, prompt: str, max_new_tokens: int) -> str:
    shown = decode(image_bytes(image) or b"", MAX_PIXELS)
    ids = torch.tensor([assistant.encoder.prompt(prompt, True)])
    with torch.inference_mode():
        tokens = assistant.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=pixel_values([shown], assistant.image_processor, assistant.image),
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )
    return assistant.tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True).strip()


def main() -> None:
    assistant = load_version(find_version("models:/lea@champion")).assistant
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            (row,) = body["inputs"]
            with lock:
                text = generate(assistant, row["image"], row["prompt"], body["params"]["max_new_tokens"])
            self._reply({"predictions": [text]})

        def _reply(self, tree: dict[str, Any]) -> None:
            data = json.dumps(tree).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128

    Server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
