"""Ray: the cluster that RAY_ADDRESS names, or one on this machine."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Any

import components
from components.errors import UserError

PACKAGE_ROOT = Path(components.__file__).parent.parent  # workers start elsewhere and import from here


def start_ray(cpus: int, environment: dict[str, str], dashboard: bool = False) -> None:
    """Join the cluster of RAY_ADDRESS, or start one on this machine with at least `cpus` logical CPUs.

    `dashboard` (for this machine alone): runs inside Tune's trials need it, for Ray finds out through it which
    worker groups have lost their trial; without it the next trial waits for their CPUs for ever. So it does where
    another Ray runs on the machine, unless processes know which one is theirs.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if dashboard:
        environment = environment | {"RAY_ADDRESS": address or _settled_address()}
    local: dict[str, Any] = {"num_cpus": max(cpus, os.cpu_count() or 1), "include_dashboard": dashboard}
    if dashboard:
        local["dashboard_host"] = "127.0.0.1"
    try:
        ray.init(
            address=address or "local",  # without a word Ray would join what another `ray start` on the machine began
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": environment},
            **({} if address else local),
        )
    except ConnectionError as error:
        raise UserError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}; unset it to run locally") from None


def worker_environment(use_gpu: bool, threads: int) -> dict[str, str]:
    """Environment variables that a worker process needs before it imports torch or DeepSpeed."""
    shared = {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false", "PYTHONPATH": str(PACKAGE_ROOT)}
    return shared if use_gpu else {**shared, "DS_ACCELERATOR": "cpu"}


def _settled_address() -> str:
    """Settle where the Ray that is about to start will answer, before its processes start."""
    import ray

    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    os.environ["RAY_GCS_SERVER_PORT"] = str(port)
    return f"{ray.util.get_node_ip_address()}:{port}"
