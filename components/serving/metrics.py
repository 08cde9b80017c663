"""What Prometheus reads at /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)

GAUGES = {
    "model_version": "Version that answers",
    "rows": "Answers that grow together",
    "waiting": "Requests that wait for a row",
    "draining": "Old versions that finish what they have",
    "images_kept": "Images whose reading is kept",
    "images_kept_bytes": "Memory of what is kept of images",
    "image_hits": "Questions that began behind an image that was kept, of this version",
}


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        every: Any = {"buckets": SECONDS, "registry": own}
        self.requests = Counter("lea_requests", "Requests by path and status", ["path", "code"], registry=own)
        self.seconds = Histogram("lea_request_seconds", "From request to the answer's end", ["model"], **every)
        self.first_token = Histogram("lea_first_token_seconds", "From request to the first token", ["model"], **every)
        self.tokens = Counter("lea_tokens", "Tokens read and written", ["model", "kind"], registry=own)
        self.loads = Counter("lea_model_loads", "Versions loaded", ["model", "outcome"], registry=own)
        self._gauges = {name: Gauge(f"lea_{name}", text, ["model"], registry=own) for name, text in GAUGES.items()}

    def watch(self, model: str, values: dict[str, Callable[[], float]]) -> None:
        """Read these when asked; the keys are those of GAUGES."""
        for name, read in values.items():
            self._gauges[name].labels(model).set_function(read)

    def text(self) -> bytes:
        return generate_latest(self.registry)
