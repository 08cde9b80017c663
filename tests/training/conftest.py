"""The process group of one rank in which training runs inside the test's own process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch.distributed as dist


@pytest.fixture(scope="session")
def one_rank() -> Iterator[None]:
    """One for all tests: DeepSpeed holds on to the first that it meets in a process."""
    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    os.environ["DS_ACCELERATOR"] = "cpu"
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())  # pyright: ignore[reportPrivateImportUsage]
    yield
    dist.destroy_process_group()
