"""Tests that need a CUDA device: `make gpu`. LEA_GPU_TESTS=cpu runs what a CPU can, to see that they are sound."""

from __future__ import annotations

import os

import pytest
import torch

ON_CPU = os.environ.get("LEA_GPU_TESTS") == "cpu"


@pytest.fixture(autouse=True)
def needs_a_gpu() -> None:
    if not torch.cuda.is_available() and not ON_CPU:
        pytest.skip("torch sees no CUDA device")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cpu" if ON_CPU else "cuda")
