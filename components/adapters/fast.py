"""When an adapter's small work runs as one kernel (kernels.py): on CUDA devices, where it agrees with its plain twin.

For many tokens, and where the work is replayed from a CUDA graph: a launch of Triton's costs the host as much as
several of torch's, which counts where one waits for the host (one prompt of 640 tokens took a quarter longer than
LoRA's by kernels).

Neither in a compiled region, which fuses by itself, nor where a hook reads what is between (reports, the balance loss,
ZeRO-3). On each device and precision the kernels are compared with their twins once, before their first use: where
they cannot be built, or differ, the twins run, with one warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from .routing import RectifiedRouter, SoftmaxRouter, TopKRouter, weigh

MANY = 2048  # tokens from which a GPU works longer than Python launches
on_meta: Any = None  # stands in for the kernels where a plan counts what a GPU would keep
CLOSE = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of numbers of about 1


_replayed: ContextVar[bool] = ContextVar("_replayed", default=False)  # of this thread


@contextmanager
def for_replay() -> Iterator[None]:
    """While it is open, the work is captured or about to be: what it launches, the host launches once."""
    token = _replayed.set(True)
    try:
        yield
    finally:
        _replayed.reset(token)


def norm_gate(module: nn.Module, skill: Tensor, task: Tensor, weight: Tensor, bias: Tensor) -> Tensor | None:
    """LayerNorm(skill) * relu(task), all (..., r), as one kernel; None: the plain twin is to run.

    module: whose output it is; its hooks would read the factors.
    """
    kernels = None if module._forward_hooks else _kernels(skill)
    return kernels.norm_gate(skill, task, weight, bias) if kernels else None


def route(router: nn.Module, features: Tensor, logits: Tensor, ranks: list[int]) -> Tensor | None:
    """Features (..., r) times the weights that `router` makes of logits (..., experts); None: the plain twin is to run.

    Without gradients only: it is for decoding, where a launch costs more than its work.
    """
    if torch.is_grad_enabled() or router._forward_hooks:
        return None
    kernels = _kernels(features)
    if kernels is None:
        return None
    kind, k = _kind(router, len(ranks))
    return kernels.route(features, logits, _owners(tuple(ranks), features.device), kind, k)


def _kind(router: nn.Module, experts: int) -> tuple[str, int]:
    if isinstance(router, RectifiedRouter):
        return "relu", 0
    return "softmax", router.k if isinstance(router, TopKRouter) else experts


@cache
def _owners(ranks: tuple[int, ...], device: torch.device) -> Tensor:
    """Whose each feature is: (r,)."""
    owners = [expert for expert, rank in enumerate(ranks) for _ in range(rank)]
    return torch.tensor(owners, dtype=torch.int32, device=device)


def _kernels(like: Tensor) -> Any:
    """The module of kernels for such a tensor, or None."""
    if like.is_meta:
        return on_meta
    if not can_launch(like) or like.dtype not in CLOSE:
        return None
    if not _replayed.get() and like.numel() < MANY * like.shape[-1]:
        return None
    return _checked(like.device, like.dtype)


def can_launch(like: Tensor) -> bool:
    """Whether Triton would find such a tensor: it launches on the current device, whatever the tensors are on."""
    return like.is_cuda and not torch.compiler.is_compiling() and like.device.index == torch.cuda.current_device()


@cache
def _checked(device: torch.device, dtype: torch.dtype) -> Any:
    return if_they_agree(f"{__package__}.kernels", differences, CLOSE[dtype], device, dtype)


def if_they_agree(
    name: str, differences: Callable[..., float], close: float, device: torch.device, dtype: torch.dtype
) -> Any:
    """A module of kernels where it can be built and is at most `close` from its twins; else None, with one warning.

    differences: (module, device, precision) -> how far it is from them. It may be called anywhere in a model: its own
    gradients are none of an activation checkpoint's or of autocast's business.
    """
    try:
        kernels = import_module(name)
    except ImportError:  # a torch without Triton
        return None
    what = name.rpartition(".")[2]
    try:
        own_tensors = saved_tensors_hooks(lambda tensor: tensor, lambda tensor: tensor)
        no_autocast = torch.autocast(device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), own_tensors, no_autocast:
            furthest = differences(kernels, device, dtype)
    except Exception as error:  # whatever a compiler may raise
        warnings.warn(f"{what} cannot be used on {device}: {type(error).__name__}: {error}", stacklevel=2)
        return None
    if not furthest <= close:
        warnings.warn(f"{what} are not used on {device}: off by {furthest:.2g} in {dtype}", stacklevel=2)
        return None
    return kernels


def differences(kernels: Any, device: torch.device, dtype: torch.dtype, rows: int = 37, rank: int = 24) -> float:
    """How far the kernels are from their twins at most, in values and gradients.

    The numbers come from no generator: drawing some would change what a run draws after it.
    """
    waves = torch.arange(rows * 2 * rank, device=device, dtype=torch.float32)
    both = (waves * 0.7).sin().add((waves * waves * 0.013).cos()).view(rows, 2 * rank).to(dtype).requires_grad_()
    weight = (waves[:rank] * 0.3).cos().to(dtype).requires_grad_()
    bias = (waves[:rank] * 0.9).sin().to(dtype).requires_grad_()
    skill, task = both.chunk(2, dim=-1)
    wanted = functional.layer_norm(skill, (rank,), weight, bias) * task.relu()
    found = kernels.norm_gate(skill, task, weight, bias)
    direction = (waves[: rows * rank] * 0.11).sin().view(rows, rank).to(dtype)
    pairs = [(wanted, found)]
    pairs += zip(*(torch.autograd.grad(each, (both, weight, bias), direction) for each in (wanted, found)), strict=True)
    ranks = [rank // 4, rank // 4, rank // 2]
    with torch.no_grad():
        features, logits = both[:, :rank], both[:, rank : rank + len(ranks)]
        for router in (SoftmaxRouter(), TopKRouter(2), RectifiedRouter()):
            owners = _owners(tuple(ranks), device)
            fused = kernels.route(features, logits, owners, *_kind(router, len(ranks)))
            pairs.append((weigh(features, router(logits), ranks), fused))
    return max(float((a - b).detach().abs().max() / a.detach().abs().max().clamp(min=1)) for a, b in pairs)
