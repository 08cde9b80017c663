"""Percentile bootstrap of any figure that is a function of sums over samples.

A resample draws as many samples as there are, with replacement. Each sample brings a row of contributions;
the figure is computed from their mean over the resample. Two systems that answered the same samples are
compared in pairs by putting both systems' contributions side by side: a resample then takes or leaves
a sample for both. That covers means (one column), differences, ratios, and pMAE (errors and true values).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FEWEST = 10  # samples; from fewer a percentile interval claims more than they can carry

Figure = Callable[[np.ndarray], np.ndarray]  # (..., columns) means of contributions -> (...)


@dataclass(frozen=True)
class Interval:
    """`low`, `high`: None from fewer than FEWEST samples, or where no resample defines the figure."""

    value: float
    low: float | None
    high: float | None
    confidence: float


def bootstrap(
    contributions: np.ndarray, figure: Figure, *, resamples: int, seed: int, confidence: float = 0.95
) -> Interval:
    """The figure over all samples and its percentile interval.

    contributions: (samples, columns). Resamples in which the figure is undefined (NaN) are left out.
    """
    samples = len(contributions)
    assert samples, "a bootstrap needs at least one sample"
    chosen = np.random.default_rng(seed).multinomial(samples, np.full(samples, 1 / samples), size=resamples)
    drawn = figure(chosen @ contributions / samples)
    drawn = drawn[~np.isnan(drawn)]
    tail = 100 * (1 - confidence) / 2
    value = float(figure(contributions.mean(axis=0)))
    if samples < FEWEST or not len(drawn):
        return Interval(value, None, None, confidence)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return Interval(value, float(low), float(high), confidence)


def difference(means: np.ndarray) -> np.ndarray:
    """(..., 2) -> first minus second."""
    return means[..., 0] - means[..., 1]


def ratio(means: np.ndarray) -> np.ndarray:
    """(..., 2) -> first over second; NaN where the second is 0."""
    first, second = means[..., 0], means[..., 1]
    return np.divide(first, second, out=np.full_like(first, np.nan), where=second != 0)
