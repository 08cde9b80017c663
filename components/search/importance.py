"""How strongly each searched setting goes with the loss, and how much of that chance alone would give.

Trials stop at different epochs, so they are compared at the last of the epochs that most of them reported. The
strength is the absolute rank correlation for numbers, and the correlation ratio of the ranks for other choices; both
lie between 0 and 1. Settings are drawn by the search, not assigned at random, and trials are few: this ranks, it
proves nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.search.result import FAILED, Trial
from components.search.space import Dimension, encode

FEWEST = 4  # trials
SHUFFLES = 400


@dataclass(frozen=True)
class Importance:
    key: str
    strength: float
    chance: float  # strength that only one shuffle in twenty exceeds
    epoch: float
    num_trials: int


def importances(trials: Sequence[Trial], space: Sequence[Dimension]) -> list[Importance]:
    """The strongest first; empty where fewer than FEWEST trials have an epoch in common."""
    reported = Counter(
        epoch for trial in trials if trial.state != FAILED for epoch in {round(point[0], 6) for point in trial.curve}
    )
    most = max(reported.values(), default=0)
    if most < FEWEST:
        return []
    epoch = max(epoch for epoch, count in reported.items() if count == most)
    shown = [trial for trial in trials if trial.state != FAILED and epoch in {round(p[0], 6) for p in trial.curve}]
    losses = np.array([next(p[1] for p in trial.curve if round(p[0], 6) == epoch) for trial in shown])
    random = np.random.default_rng(0)
    found = []
    for dimension in space:
        values = [trial.values[dimension.key] for trial in shown]
        shuffled = [strength(values, random.permutation(losses), dimension.is_ordered) for _ in range(SHUFFLES)]
        chance = float(np.percentile(shuffled, 95))
        found.append(
            Importance(dimension.key, strength(values, losses, dimension.is_ordered), chance, epoch, len(shown))
        )
    return sorted(found, key=lambda one: -one.strength)


def strength(values: Sequence[Any], losses: np.ndarray, is_ordered: bool) -> float:
    """Between 0 (none) and 1: |Spearman's rho| of numbers, eta of other choices."""
    target = ranks(losses)
    spread = float(((target - target.mean()) ** 2).sum())
    if is_ordered:
        source = ranks(np.asarray(values, dtype=float))
        across = float(((source - source.mean()) ** 2).sum())
        together = float(((source - source.mean()) * (target - target.mean())).sum())
        return abs(together) / (spread * across) ** 0.5 if spread * across else 0.0
    names = np.asarray([str(encode(value)) for value in values])
    groups = [target[names == name] for name in set(names)]
    between = sum(len(group) * (group.mean() - target.mean()) ** 2 for group in groups)
    return float(between / spread) ** 0.5 if spread else 0.0


def ranks(values: np.ndarray) -> np.ndarray:
    """1 to n, equal values sharing the mean of their places."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
