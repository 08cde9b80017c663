"""The gate between `candidate` and `champion`: thresholds, and not worse than the champion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.errors import UserError
from components.params import Gate

# By the last word of a metric's name. Errors in percent of the true mean; every other metric is better when higher.
LOWER_IS_BETTER = frozenset({"pmae", "mass", "calories", "fat", "protein", "carbohydrate"})


@dataclass(frozen=True)
class Decision:
    passed: bool
    reasons: list[str]  # one sentence per comparison, those that failed first


def lower_is_better(metric: str) -> bool:
    return metric.rpartition(".")[2] in LOWER_IS_BETTER


def flat_metrics(row: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """{"ingredients": {"iou": 0.7}} -> {"ingredients.iou": 0.7}; values that are null fall out."""
    return {
        f"{task}.{name}": float(value)
        for task, values in row.items()
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def decide(metrics: Mapping[str, float], champion: Mapping[str, float] | None, same_data: bool, gate: Gate) -> Decision:
    """Judge flat metrics against thresholds and, where both saw the same data, against the champion's.

    Raises UserError where the gate names a metric that was not measured.
    """
    _check_names(metrics, gate)
    good: list[str] = []
    bad: list[str] = []

    for name, bound in gate.at_least.items():
        value = metrics[name]
        (good if value >= bound else bad).append(f"{name} {value:.4g} must be at least {bound:.4g}")
    for name, bound in gate.at_most.items():
        value = metrics[name]
        (good if value <= bound else bad).append(f"{name} {value:.4g} must be at most {bound:.4g}")

    if gate.not_worse and champion is None:
        good.append("no other champion to compare with")
    elif gate.not_worse and not same_data:
        good.append("not compared with the champion: it was measured on other data")
    elif champion is not None:
        for name, allowed in gate.not_worse.items():
            if name not in champion:
                good.append(f"{name} was not measured for the champion")
                continue
            sign = -1 if lower_is_better(name) else 1
            loss = sign * (champion[name] - metrics[name])
            # A loss of exactly what is allowed must pass, whatever the last bit of a difference says.
            fine = loss <= allowed + 1e-9
            rival = f"the champion's {champion[name]:.4g}"
            (good if fine else bad).append(
                f"{name} {metrics[name]:.4g} may be at most {allowed:.4g} worse than {rival}"
            )

    if bad:
        return Decision(False, [f"failed: {reason}" for reason in bad] + [f"passed: {reason}" for reason in good])
    return Decision(True, [f"passed: {reason}" for reason in good])


def _check_names(metrics: Mapping[str, float], gate: Gate) -> None:
    for field in ("at_least", "at_most", "not_worse"):
        for name in getattr(gate, field):
            if name not in metrics:
                known = ", ".join(sorted(metrics)) or "none"
                raise UserError(
                    f"params.yaml: registry.gate.{field} names {name!r}, which was not measured; measured: {known}"
                )
