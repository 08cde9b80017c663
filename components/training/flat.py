"""All trained parameters as one tensor: what ZeRO 0 to 2 do, in a few kernels a step instead of a few a parameter.

An adapter on all linear layers has a thousand small tensors. DeepSpeed checks, measures and copies each of them by
itself, which costs a GPU more time than the gradients. Here, N workers share one flat tensor of P numbers:

    gradients   cat -> sum over micro-batches (P, fp32) -> one all-reduce -> one norm, which is the check as well
    master      (P / N, fp32) of each worker, with Adam's moments: AdamW on slices of it, one for each learning rate
    parameters  all-gather of the updated slices, copied back together

The interface is that of DeepSpeed's engine, as far as this package uses it; DeepSpeed under ZeRO 0 to 2 is the plain
twin, with the same losses and weights up to rounding.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")
Group = dict[str, Any]  # of torch.optim: params, lr, name
Whole = dict[str, Tensor]  # by parameter name, fp32, on the CPU


class FlatOptimizer:
    """AdamW on this worker's slice of the flat tensor of all parameters, padded to a multiple of the workers."""

    def __init__(self, groups: Sequence[Group], weight_decay: float, clip: float) -> None:
        self.parameters: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self._rank, self._workers, self._clip = dist.get_rank(), dist.get_world_size(), clip
        self._dtype = reduce(torch.promote_types, (p.dtype for p in self.parameters))
        self._borders = _borders([p.numel() for p in self.parameters])
        self._size = -(-self._borders[-1] // self._workers)  # of a slice
        self._start = self._rank * self._size
        self._master = self._mine(self._joined([p.detach() for p in self.parameters]).float()).clone()
        on_gpu = self._master.is_cuda
        edges = _borders([sum(p.numel() for p in group["params"]) for group in groups])
        self._slices = [self._segment(first, end) for first, end in pairwise(edges)]
        own = [
            {**group, "params": [nn.Parameter(self._master[part])]}  # a view
            for group, part in zip(groups, self._slices, strict=True)
        ]
        self.adam = torch.optim.AdamW(own, weight_decay=weight_decay, fused=on_gpu)  # Adam where the decay is 0
        self._step_device = self._master.device if on_gpu else torch.device("cpu")
        self._sum: Tensor | None = None  # of gradients, (slices of all workers,)
        self.overflow, self.norm = False, 0.0  # of the last step; the norm is before clipping

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.adam.param_groups

    def collect(self) -> None:
        """Move the gradients of a micro-batch from the parameters into the sum."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        joined = self._joined(gradients)
        self._sum = joined.float() if self._sum is None else self._sum.add_(joined)
        for parameter in self.parameters:
            parameter.grad = None

    def step(self) -> None:
        """Update from the mean over workers; a gradient that is not finite changes nothing and sets `overflow`."""
        assert self._sum is not None, "backward comes first"
        gradient, self._sum = self._sum, None
        if self._workers > 1:
            dist.all_reduce(gradient)
            gradient /= self._workers
        self.norm = float(torch.linalg.vector_norm(gradient))
        self.overflow = not math.isfinite(self.norm)
        if self.overflow:
            return
        mine = self._mine(gradient)
        if self._clip and self.norm > self._clip:
            mine *= self._clip / (self.norm + 1e-6)
        for group, part in zip(self.param_groups, self._slices, strict=True):
            group["params"][0].grad = mine[part]
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self._spread()

    def gather(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Master weights and moments of all workers, (slices of all workers,) each. Every rank must call it."""
        return self._all(self._master), {key: self._all(self._moments(key)) for key in MOMENTS}

    def scatter(self, weights: Sequence[Tensor], moments: dict[str, Sequence[Tensor]], updates: int) -> None:
        """The inverse: whole tensors in the order of `parameters`, and how often Adam has updated them."""
        self._master.copy_(self._mine(self._joined(weights)))
        slices = {key: self._mine(self._joined(moments[key])) for key in MOMENTS}
        for group, part in zip(self.param_groups, self._slices, strict=True):
            steps = torch.tensor(float(updates), device=self._step_device)
            own = {key: whole[part].to(self._master).clone() for key, whole in slices.items()}
            self.adam.state[group["params"][0]] = {"step": steps, **own}
        self._spread()

    def split(self, whole: Tensor) -> list[Tensor]:
        """Parameter by parameter what `gather` gives, as copies in fp32 on the CPU."""
        whole = whole.to("cpu")
        parts = zip(self.parameters, pairwise(self._borders), strict=True)
        return [whole[first:end].view(parameter.shape).clone() for parameter, (first, end) in parts]

    def _spread(self) -> None:
        """The parameters take the values of the master."""
        whole = self._all(self._master.to(self._dtype))
        views = [
            whole[first:end].view(parameter.shape)
            for parameter, (first, end) in zip(self.parameters, pairwise(self._borders), strict=True)
        ]
        current = [parameter.detach() for parameter in self.parameters]
        torch._foreach_copy_(current, views)  # pyright: ignore[reportPrivateImportUsage]

    def _joined(self, tensors: Sequence[Tensor]) -> Tensor:
        joined = torch.cat([tensor.reshape(-1) for tensor in tensors])
        missing = self._size * self._workers - len(joined)
        return nn.functional.pad(joined, (0, missing)) if missing else joined

    def _mine(self, whole: Tensor) -> Tensor:
        return whole[self._start : self._start + self._size]

    def _all(self, mine: Tensor) -> Tensor:
        if self._workers == 1:
            return mine
        whole = mine.new_empty(self._size * self._workers)
        dist.all_gather_into_tensor(whole, mine.contiguous())
        return whole

    def _segment(self, first: int, end: int) -> slice:
        """Where this worker's slice holds numbers first to end of the whole; empty where it holds none."""
        low = min(max(first - self._start, 0), self._size)
        return slice(low, max(low, min(end - self._start, self._size)))

    def _moments(self, key: str) -> Tensor:
        found = torch.zeros_like(self._master)
        for group, part in zip(self.param_groups, self._slices, strict=True):
            state = self.adam.state.get(group["params"][0])
            if state:
                found[part] = state[key]
        return found


class FlatEngine:
    """A module with a FlatOptimizer, under the names of DeepSpeed's engine."""

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[Group],
        schedule: Callable[[int], float],
        *,
        weight_decay: float,
        clip: float,
        micro_batches: int,
        stage: int,
    ) -> None:
        self.device = _device()
        self.module = module.to(self.device)
        self.optimizer = FlatOptimizer(groups, weight_decay, clip)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer.adam, schedule)
        self.global_steps = self._micro_step = 0
        self._micro_batches, self._stage = micro_batches, stage

    def __call__(self, *inputs: Any) -> Tensor:
        return self.module(*inputs)

    def backward(self, loss: Tensor) -> None:
        (loss / self._micro_batches).backward()
        self.optimizer.collect()

    def step(self) -> None:
        """After the last of the micro-batches: the update, and the schedule unless it was an overflow."""
        self._micro_step = (self._micro_step + 1) % self._micro_batches
        if self._micro_step:
            return
        self.optimizer.step()
        self.global_steps += 1
        if not self.optimizer.overflow:
            self.lr_scheduler.step()

    def capture(self) -> tuple[Whole, dict[str, Whole]]:
        """Weights and moments by the parameters' names in the model. Every rank must call it."""
        weights, moments = self.optimizer.gather()
        names = self._names()

        def named(whole: Tensor) -> Whole:
            return dict(zip(names, self.optimizer.split(whole), strict=True))

        return named(weights), {key: named(whole) for key, whole in moments.items()}

    def restore(self, weights: Any, moments: dict[str, Any], updates: int) -> None:
        names, device = self._names(), self.device

        def ordered(whole: Any) -> list[Tensor]:
            return [whole[name].to(device) for name in names]

        self.optimizer.scatter(ordered(weights), {key: ordered(whole) for key, whole in moments.items()}, updates)

    def _names(self) -> list[str]:
        known = {id(parameter): name for name, parameter in self.module.get_submodule("llava").named_parameters()}
        return [known[id(parameter)] for parameter in self.optimizer.parameters]

    def eval(self) -> None:
        self.module.eval()

    def train(self) -> None:
        self.module.train()

    def get_lr(self) -> list[Any]:
        return self.lr_scheduler.get_last_lr()

    def get_global_grad_norm(self) -> float:
        return self.optimizer.norm

    def zero_optimization_stage(self) -> int:
        return self._stage


def _borders(sizes: Sequence[int]) -> list[int]:
    borders = [0]
    for size in sizes:
        borders.append(borders[-1] + size)
    return borders


def _device() -> torch.device:
    """This worker's GPU, where there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device
