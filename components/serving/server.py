"""What `lea serve` does: load the models, open the port, answer until it is stopped."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from components.errors import UserError
from components.serving.limits import Limits

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(models: Sequence[str], limits: Limits, host: str, port: int, key: str | None) -> None:
    """Until Ctrl-C or SIGTERM; requests that have begun are answered first."""
    import uvicorn

    from components.serving.app import make_app
    from components.serving.metrics import Metrics
    from components.serving.slots import Slots

    if host not in LOOPBACK and not key:
        raise UserError(
            f"--host {host} lets other machines ask; set LEA_API_KEY in the environment to the key that they "
            "must send (Authorization: Bearer KEY), or leave --host out"
        )
    with _bind(host, port) as listening:
        print(f"loading {', '.join(models)}", file=sys.stderr, flush=True)
        slots = Slots(models, limits, Metrics())
        hosts = ["127.0.0.1", "[::1]", "localhost"] if host in LOOPBACK else None
        config = uvicorn.Config(
            make_app(slots, limits, key, hosts),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(limits.timeout_s) + 1,
        )
        where = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        for slot in slots.by_id.values():
            version = slot.running.loaded.version
            print(
                f"{slot.id}: version {version} answers at {where} (a page) and {where}/v1", file=sys.stderr, flush=True
            )
        uvicorn.Server(config).run(sockets=[listening])


def _bind(host: str, port: int) -> socket.socket:
    """The port is taken first: loading takes long."""
    listening: socket.socket | None = None
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        raise UserError(f"--host {host} --port {port} cannot be listened on: {error}; give another --port") from None
    return listening
