"""Ingredient recognition: overlap of two sets of names (paper 4.1).

    IoU = |A & B| / |A | B|        F1 = 2 |A & B| / (|A| + |B|)

Both are computed for each sample and averaged over samples; the paper's printed F1 lies below
2 IoU / (1 + IoU) of its printed IoU, which only this order of averaging gives.
"""

from __future__ import annotations

from collections.abc import Set


def iou(predicted: Set[str], true: Set[str]) -> float:
    """0..1; two empty sets agree."""
    union = len(predicted | true)
    return len(predicted & true) / union if union else 1.0


def f1(predicted: Set[str], true: Set[str]) -> float:
    """0..1; two empty sets agree."""
    total = len(predicted) + len(true)
    return 2 * len(predicted & true) / total if total else 1.0
