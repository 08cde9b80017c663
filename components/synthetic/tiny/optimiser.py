"""How the tiny base's parts are optimised: Muon for the matrices inside the blocks, AdamW for the rest.

Muon (Jordan et al. 2024: momentum, made orthogonal by Newton-Schulz steps) needs about half the steps of AdamW at this
size. Its updates are scaled to AdamW's size, so both have one learning rate: warm-up, then cosine to zero.

torch.optim.Muon makes them orthogonal in bfloat16, which takes ten times as long on a CPU that has no instructions for
it. Here they stay in float32, and matrices of one shape go through together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn

Report = Callable[[int, str], None]  # (steps done, how it goes)

_WARMUP_STEPS = 20
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of the quintic, as published
_NEWTON_SCHULZ_STEPS = 5


class TinyOptimiser:
    def __init__(self, blocks: nn.Module, others: Iterable[nn.Module], learning_rate: float, num_steps: int) -> None:
        matrices = [parameter for parameter in blocks.parameters() if parameter.ndim == 2]
        inside = {id(parameter) for parameter in matrices}
        everything = {id(p): p for module in (blocks, *others) for p in module.parameters()}
        self.parameters = list(everything.values())
        rest = [parameter for parameter in self.parameters if id(parameter) not in inside]
        self._optimisers = (
            Muon(matrices),
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


class Muon(torch.optim.Optimizer):
    """Muon for matrices, without weight decay; an update has the root mean square that AdamW's would have (0.2)."""

    def __init__(self, matrices: Sequence[nn.Parameter], momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": 0.0, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for matrices in _by_shape(group["params"]):
                gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
                kept = self.state[matrices[0]]
                if "momentum" not in kept:
                    kept["momentum"] = torch.zeros_like(gradients)
                ahead = gradients.lerp(kept["momentum"].lerp_(gradients, 1 - group["momentum"]), group["momentum"])
                rate = group["lr"] * 0.2 * math.sqrt(max(matrices[0].shape))
                for matrix, update in zip(matrices, orthogonal(ahead), strict=True):
                    matrix.sub_(update, alpha=rate)


def _by_shape(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    shapes = defaultdict[torch.Size, list[nn.Parameter]](list)
    for parameter in parameters:
        if parameter.grad is not None:
            shapes[parameter.shape].append(parameter)
    return list(shapes.values())


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly: (n, rows, columns), singular values come to lie around 1.

    A step: X <- a X + (b S + c S S) X with S = X X^T.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = _NEWTON_SCHULZ
    for _ in range(_NEWTON_SCHULZ_STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
