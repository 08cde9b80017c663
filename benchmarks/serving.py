"""How fast is `lea serve`, and does it stay up? Prints a table, writes JSON.

    python -m benchmarks.serving --clients 1 4 16 64

Three ways, one model, the same requests: photos, several questions about each, answers of `--tokens` tokens (random
weights end none of their own):

    lea serve       continuous batching; what was read of a photo is kept
    mlflow          `mlflow models serve` of the same version
    one at a time   Hugging Face's `generate` behind a lock, without HTTP

Each way is a process of its own and is asked by as many threads as there are clients, each sending its next request
when it has the answer to its last. p95 is over requests; the first token's time is that of streamed answers, which the
other ways do not have. Goal: requests a second and p95 two times better than the better of the other two.

Then promotions under load (goal: no request failed in any), and nonsense (goal: no answer above 499, memory flat).
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine
from benchmarks.serving_model import MODEL, asks, nonsense, write_versions
from components.params import load_params
from components.tracking import registry, store

QUICK_POLL = "import components.serving.app as a; a.POLL_S = 0.3; from pipelines.cli import main; main()"
ONE_AT_A_TIME = "from benchmarks.serving_generate import main; main()"
Ask = Callable[[dict[str, Any]], tuple[int, float]]  # request -> status, seconds to its first token (or its end)


@contextmanager
def server(command: Sequence[str], path: str) -> Iterator[tuple[int, int]]:
    """A server's port and process id, once `path` answers."""
    port = free_port()
    path_to_programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow starts uvicorn
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=os.environ | {"PATH": path_to_programs},
    )
    try:
        deadline = time.monotonic() + 180
        while status_of(port, path) != 200:
            assert process.poll() is None, process.stderr.read().decode()[-2000:]  # type: ignore[union-attr]
            assert time.monotonic() < deadline, f"{command[0]} does not answer"
            time.sleep(0.2)
        yield port, process.pid
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            each.terminate()
        process.communicate(timeout=60)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def status_of(port: int, path: str) -> int | None:
    try:
        return post(port, path, None)[0]
    except OSError:
        return None


def post(port: int, path: str, body: bytes | None, stream: bool = False) -> tuple[int, float]:
    """Status, and seconds to the first piece of text (where it is streamed) or to the end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=300)
    began = time.monotonic()
    try:
        connection.request("POST" if body is not None else "GET", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        first = None
        while stream and answer.status == 200 and (line := answer.readline()):
            if first is None and b'"content": "' in line and b'"content": ""' not in line:
                first = time.monotonic() - began
        answer.read()
        return answer.status, first or time.monotonic() - began
    finally:
        connection.close()


def ask_ours(port: int, stream: bool = False) -> Ask:
    return lambda ask: post(port, "/v1/chat/completions", json.dumps({**ask, "stream": stream}).encode(), stream)


def ask_rows(port: int) -> Ask:
    """The same request as MLflow takes it."""

    def send(ask: dict[str, Any]) -> tuple[int, float]:
        image, text = ask["messages"][0]["content"]
        row = {"image": image["image_url"]["url"], "prompt": text["text"]}
        body = {"inputs": [row], "params": {"max_new_tokens": ask["max_tokens"]}}
        return post(port, "/invocations", json.dumps(body).encode())

    return send


def load(send: Ask, requests: Sequence[dict[str, Any]], clients: int) -> dict[str, float]:
    """Requests a second, and the 95th percentile of their seconds."""
    left: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    for request in requests:
        left.put(request)
    seconds: list[float] = []
    firsts: list[float] = []
    failed: list[int] = []

    def work() -> None:
        while True:
            try:
                request = left.get_nowait()
            except queue.Empty:
                return
            began = time.monotonic()
            status, first = send(request)
            seconds.append(time.monotonic() - began)
            firsts.append(first)
            failed.extend([status] if status != 200 else [])

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.monotonic() - began
    assert not failed, f"{len(failed)} requests failed: {failed[:3]}"
    return {
        "requests": len(requests),
        "per_second": len(requests) / whole,
        "p95_s": percentile(seconds, 95),
        "first_token_p50_s": statistics.median(firsts),
    }


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def measure(clients: Sequence[int], args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """way -> clients -> figures."""
    lea = [sys.executable, "-m", "pipelines.cli", "serve"]
    uri = f"models:/{MODEL.partition('@')[0]}@champion"
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    generate = [sys.executable, "-c", ONE_AT_A_TIME]
    ways: dict[str, tuple[Sequence[str], str, Callable[[int], Ask]]] = {
        "lea serve": (lea, "/health", ask_ours),
        "lea serve, streamed": (lea, "/health", lambda port: ask_ours(port, stream=True)),
        "mlflow": (mlflow, "/health", ask_rows),
        "one at a time": (generate, "/health", ask_rows),
    }
    found: dict[str, dict[str, Any]] = {}
    for way, (command, health, sender) in ways.items():
        with server(command, health) as (port, _):
            send = sender(port)
            load(send, asks(2, 2, args.tokens), 2)  # what is made at first use
            found[way] = {}
            for count in clients:
                images = max(4, count * args.rounds // args.questions)
                found[way][str(count)] = load(send, asks(images, args.questions, args.tokens), count)
                print(f"{way:<22}{count:>4} clients {found[way][str(count)]}", file=sys.stderr, flush=True)
    return found


def promotions(count: int, versions: Sequence[int], clients: int = 8) -> dict[str, Any]:
    """Move the alias to and fro under load; what became of the requests."""
    client, statuses, answered = store.connect(), Counter[int](), threading.Event()
    requests, stop = asks(4, 4, 12), threading.Event()

    def work(send: Ask, number: int) -> None:
        while not stop.is_set():
            statuses[send(requests[number % len(requests)])[0]] += 1
            number += 1
            answered.set()

    with server([sys.executable, "-c", QUICK_POLL, "serve"], "/health") as (port, _):
        threads = [threading.Thread(target=work, args=(ask_ours(port), number)) for number in range(clients)]
        for thread in threads:
            thread.start()
        moved = 0
        for turn in range(count):
            version = versions[(turn + 1) % len(versions)]
            client.set_registered_model_alias("lea", registry.CHAMPION, str(version))
            moved += wait_for(port, f"lea/{version}")
        stop.set()
        for thread in threads:
            thread.join()
    failed = sum(number for status, number in statuses.items() if status != 200)
    return {"promotions": moved, "requests": statuses.total(), "failed": failed}


def wait_for(port: int, version: str, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/health")
        if version in json.loads(connection.getresponse().read())["models"].values():
            return True
        time.sleep(0.05)
    return False


def fuzz(count: int) -> dict[str, Any]:
    """Nonsense, one request after the other: statuses, and the server's memory after a fifth and at the end."""
    small = ["--image-cache-bytes", "16000000"]  # soon full, so that what grows behind it is seen
    with server([sys.executable, "-m", "pipelines.cli", "serve", *small], "/health") as (port, number):
        statuses: Counter[int] = Counter()
        memory = []
        for place, body in enumerate(nonsense(count)):
            statuses[post(port, "/v1/chat/completions", body)[0]] += 1
            if place + 1 in (count // 5, count):
                memory.append(psutil.Process(number).memory_info().rss / 2**20)
        up = status_of(port, "/health") == 200
    above = sum(number for status, number in statuses.items() if status >= 500)
    return {
        "requests": count,
        "statuses": {str(status): number for status, number in sorted(statuses.items())},
        "above_499": above,
        "still_up": up,
        "mib_after_a_fifth": round(memory[0]),
        "mib_at_the_end": round(memory[1]),
    }


def table(results: dict[str, Any]) -> str:
    lines = [f"{'way':<22}{'clients':>8}{'requests/s':>12}{'p95 s':>9}{'first token s':>15}"]
    for way, rows in results["ways"].items():
        for clients, row in rows.items():
            first = f"{row['first_token_p50_s']:>15.3f}" if "streamed" in way else f"{'':>15}"
            lines.append(f"{way:<22}{clients:>8}{row['per_second']:>12.2f}{row['p95_s']:>9.2f}{first}")
    return "\n".join([*lines, f"promotions {results['promotions']}", f"nonsense {results['nonsense']}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--questions", type=int, default=4, help="about each photo")
    parser.add_argument("--tokens", type=int, default=24, help="of an answer")
    parser.add_argument("--rounds", type=int, default=2, help="requests of each client")
    parser.add_argument("--promotions", type=int, default=10)
    parser.add_argument("--nonsense", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/serving.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lea-serving-") as folder:
        os.environ["LEA_HOME"] = f"{folder}/home"
        versions = write_versions(Path(folder), load_params())
        store.connect().set_registered_model_alias("lea", registry.CHAMPION, str(versions[0]))
        os.environ["MLFLOW_TRACKING_URI"] = store.tracking_uri()
        results = {
            "machine": machine(),
            "questions": args.questions,
            "tokens": args.tokens,
            "ways": measure(args.clients, args),
            "promotions": promotions(args.promotions, versions),
            "nonsense": fuzz(args.nonsense),
        }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
