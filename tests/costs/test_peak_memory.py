from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from components.costs.peak_memory import PeakMemory


def test_counts_a_storage_once_from_its_making_to_its_end() -> None:
    with PeakMemory() as memory:
        first = torch.empty(1000)
        views = [first.view(10, 100), first[:5], first.t()]
        assert memory.alive == 4000
        second = first + 1
        del first, views
        assert (memory.alive, memory.peak) == (4000, 8000)
        del second
    assert (memory.alive, memory.peak) == (0, 8000)


def test_held_tensors_count_from_the_start() -> None:
    weight = torch.empty(10, 10)
    with PeakMemory(weight, weight.t()) as memory:
        assert memory.alive == 400


def test_peak_equals_that_of_the_allocator() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64))
    x = torch.randn(32, 64)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        model(x).square().sum().backward()
        optimizer.step()

    step()  # so that gradients and moments exist
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    moments = [tensor for state in optimizer.state.values() for tensor in state.values()]
    with PeakMemory(x, *model.parameters(), *gradients, *moments) as memory:
        before = memory.alive
        step()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as allocator:
        step()
    alive = peak = 0
    records: Any = allocator.profiler.kineto_results  # type: ignore[union-attr]
    for event in records.events():
        if event.name() == "[memory]":
            alive += event.nbytes()
            peak = max(peak, alive)
    assert memory.peak - before == peak


def test_meta_counts_what_cpu_counts() -> None:
    peaks = []
    for device in ("cpu", "meta"):
        model = nn.Sequential(nn.Linear(64, 256, device=device), nn.ReLU(), nn.Linear(256, 64, device=device))
        with PeakMemory(*model.parameters()) as memory:
            model(torch.zeros(8, 64, device=device)).sum().backward()
        peaks.append(memory.peak)
    assert peaks[0] == peaks[1]
