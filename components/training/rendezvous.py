"""How the workers of a run find each other: through a file where all are on this machine, else as Ray Train does.

torch's TCPStore, Ray Train's way, listens on every address of the machine and takes what anyone writes.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.train.torch import TorchConfig
from ray.train.torch.config import _set_torch_distributed_env_vars, _setup_torch_process_group, _TorchBackend

from components.cluster import is_on_loopback


def process_group(backend: str) -> TorchConfig:
    """The setting for a TorchTrainer; Ray is up."""
    return ByFile(backend=backend) if is_on_loopback() else TorchConfig(backend=backend)


@dataclass
class ByFile(TorchConfig):
    @property
    def backend_cls(self) -> type[_TorchBackend]:
        return _FileBackend


class _FileBackend(_TorchBackend):
    """A fresh folder for each worker group: a file that an earlier group left would hold the new one up."""

    _folder: Path | None = None

    def on_start(self, worker_group: Any, backend_config: TorchConfig) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lea-group-"))
        worker_group.execute(_set_torch_distributed_env_vars)
        joining = [
            worker_group.execute_single_async(
                rank,
                _setup_torch_process_group,
                backend=backend_config.backend,
                world_rank=rank,
                world_size=len(worker_group),
                init_method=f"file://{self._folder / 'store'}",
                timeout_s=backend_config.timeout_s,
            )
            for rank in range(len(worker_group))
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: TorchConfig) -> None:
        super().on_shutdown(worker_group, backend_config)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def join(rank: int, workers: int, init_method: str, use_gpu: bool) -> None:
    """Make this process one of a group, outside Ray Train. On GPUs it sees its own card alone, as number 0."""
    place, there = (0, 1) if use_gpu else (rank, workers)
    for name, value in (("RANK", rank), ("WORLD_SIZE", workers), ("LOCAL_RANK", place), ("LOCAL_WORLD_SIZE", there)):
        os.environ[name] = str(value)
    _setup_torch_process_group("nccl" if use_gpu else "gloo", rank, workers, init_method)


def open_place() -> str:
    """Where the other workers find this one: an address of this machine that was free a moment ago."""
    host = ray.util.get_node_ip_address()
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
