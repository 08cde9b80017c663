"""Ranks as processes of their own. They are forked from one process that has imported the heavy libraries once."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp

PRELOADED = ["torch", "deepspeed", "transformers", "components.training.loop", "components.model.assemble"]


def run(work: Callable[..., None], *args: Any, processes: int) -> None:
    """`work(rank, *args)` in each of them; raises what one of them raises."""
    multiprocessing.set_forkserver_preload(PRELOADED)
    mp.start_processes(work, args, nprocs=processes, start_method="forkserver")  # pyright: ignore


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
