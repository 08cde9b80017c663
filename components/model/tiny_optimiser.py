"""How the tiny base's parts are optimised: Muon for the matrices inside the blocks, AdamW for the rest.

Muon (orthogonalised momentum) needs about half the steps of AdamW at this size. Its updates are scaled to AdamW's
size, so both have one learning rate: warm-up, then cosine to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn

Report = Callable[[int, str], None]  # (steps done, how it goes)

_WARMUP_STEPS = 20


class TinyOptimiser:
    def __init__(self, blocks: nn.Module, others: Iterable[nn.Module], learning_rate: float, num_steps: int) -> None:
        matrices = [parameter for parameter in blocks.parameters() if parameter.ndim == 2]
        inside = {id(parameter) for parameter in matrices}
        everything = {id(p): p for module in (blocks, *others) for p in module.parameters()}
        self.parameters = list(everything.values())
        rest = [parameter for parameter in self.parameters if id(parameter) not in inside]
        self._optimisers = (
            torch.optim.Muon(matrices, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self._learning_rate, self._num_steps, self._step = learning_rate, num_steps, 0

    def step(self, loss: torch.Tensor) -> None:
        """One update from this loss."""
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self._step += 1
        share = min(1.0, self._step / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * self._step / self._num_steps))
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self._learning_rate * share
            optimiser.step()
            optimiser.zero_grad()
