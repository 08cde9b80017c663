"""Shares in percent."""

from __future__ import annotations


def percent_of(part: float, whole: float) -> float:
    """0 where there is nothing to take a share of."""
    return 100 * part / whole if whole else 0.0
