"""Timing on a device: whole wall seconds, the host's part included, and what is said of them."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

Runs = Mapping[str, Callable[[], Any]]
Taken = dict[str, list[float]]


@dataclass(frozen=True)
class Bench:
    """What a phase is given: where it runs, how large, and where its rows go."""

    device: torch.device
    tiny: bool
    out: Path  # JSON lines, one a row, written as they come: a crash costs the rows that were not there yet

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    @property
    def rounds(self) -> int:
        return 2 if self.tiny else 7

    def emit(self, name: str, value: float | None, spread: Sequence[float] = (), unit: str = "times") -> None:
        """Write a row. value: None where the device has no such figure; spread: the quartiles over rounds."""
        with self.out.open("a", encoding="utf-8") as stream:
            line = {"row": name, "value": value, "spread": list(spread), "unit": unit}
            stream.write(json.dumps(line) + "\n")

    def emit_ratio(self, name: str, own: Sequence[float], other: Sequence[float]) -> None:
        """The median over rounds of own / other in the same round."""
        each = [a / b for a, b in zip(own, other, strict=True)]
        self.emit(name, statistics.median(each), np.quantile(each, [0.25, 0.75]).tolist())

    def emit_each(self, name: str, seconds: Sequence[float], unit: str, amount: float = 1.0) -> None:
        """The median over rounds of `amount` units in so many seconds, per second; or of seconds themselves."""
        each = [amount / taken if unit.endswith("/s") else taken * amount for taken in seconds]
        self.emit(name, statistics.median(each), np.quantile(each, [0.25, 0.75]).tolist(), unit)

    def seconds(self, run: Callable[[], Any]) -> float:
        self.settle()
        started = time.perf_counter()
        run()
        self.settle()
        return time.perf_counter() - started

    def settle(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rotate(self, runs: Runs, rounds: int | None = None, warm_up: int = 2) -> Taken:
        """Every run once a round, in rotating order; seconds of each round."""
        names, rounds = list(runs), rounds or self.rounds
        for run in runs.values():
            for _ in range(1 if self.tiny else warm_up):
                run()
        taken: Taken = {name: [] for name in names}
        for turn in range(rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                taken[name].append(self.seconds(runs[name]))
        return taken

    def peak_bytes(self, run: Callable[[], Any]) -> int | None:
        """Bytes of tensors at the peak of a run; None on a CPU, where torch counts none."""
        if self.device.type != "cuda":
            run()
            return None
        self.settle()
        torch.cuda.reset_peak_memory_stats()
        run()
        self.settle()
        return torch.cuda.max_memory_allocated()
