"""Steps that must not be learnt from: a non-finite loss, or one far above those before it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from statistics import median

WINDOW = 20  # steps that a loss is compared with


class Guard:
    """Judges the loss of a step before its gradients are applied.

    Args:
        spike: a loss is too high above `spike` times the median of the last WINDOW; 0 switches that off.
        past: the losses that were learnt from so far, of which the last WINDOW count.
    """

    def __init__(self, spike: float, past: Iterable[float] = ()) -> None:
        self._spike = spike
        self._past = deque(past, maxlen=WINDOW)

    def complaint(self, loss: float) -> str | None:
        """Why a step of this loss is bad, or None."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self._spike and len(self._past) == WINDOW and loss > self._spike * median(self._past):
            usual = median(self._past)
            return f"the loss is {loss:.3g}, more than {self._spike:g} times the {usual:.3g} of the steps before"
        return None

    def learnt(self, loss: float) -> None:
        self._past.append(loss)
