"""The small work between an adapter's two products, as one kernel each (Triton). Imported on CUDA devices alone.

Each has a plain twin in torch: Dual-LoRA's norm and gate in dual_lora.py, routing in routing.py and experts.py. Rows
are tokens; a program takes ROWS of them and all features, and computes in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 16
EPS = 1e-5  # of torch's layer_norm


@triton.jit
def _norm_gate(skill, task, weight, bias, out, rows, rank, skill_stride, task_stride, eps,
               ROWS: tl.constexpr, RANK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, RANK)[None, :]
    inside = (row < rows) & (column < rank)
    s = tl.load(skill + row * skill_stride + column, mask=inside, other=0.0).to(tl.float32)
    t = tl.load(task + row * task_stride + column, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < rank, other=0.0).to(tl.float32)
    b = tl.load(bias + column, mask=column < rank, other=0.0).to(tl.float32)
    centred = tl.where(inside, s - (tl.sum(s, axis=1) / rank)[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / rank
    normed = centred * (1 / tl.sqrt(variance + eps))[:, None] * w + b
    tl.store(out + row * rank + column, (normed * tl.maximum(t, 0.0)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _norm_gate_backward(gradient, skill, task, weight, bias, d_skill, d_task, d_weight, d_bias,
                        rows, rank, skill_stride, task_stride, eps,
                        ROWS: tl.constexpr, RANK: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, RANK)[None, :]
    inside = (row < rows) & (column < rank)
    g = tl.load(gradient + row * rank + column, mask=inside, other=0.0).to(tl.float32)
    s = tl.load(skill + row * skill_stride + column, mask=inside, other=0.0).to(tl.float32)
    t = tl.load(task + row * task_stride + column, mask=inside, other=0.0).to(tl.float32)
    w = tl.load(weight + column, mask=column < rank, other=0.0).to(tl.float32)
    b = tl.load(bias + column, mask=column < rank, other=0.0).to(tl.float32)
    centred = tl.where(inside, s - (tl.sum(s, axis=1) / rank)[:, None], 0.0)
    scale = (1 / tl.sqrt(tl.sum(centred * centred, axis=1) / rank + eps))[:, None]
    standard = centred * scale
    d_normed = g * tl.maximum(t, 0.0)
    d_gate = tl.where(t > 0.0, g * (standard * w + b), 0.0)
    d_standard = d_normed * w
    mean = (tl.sum(d_standard, axis=1) / rank)[:, None]
    along = (tl.sum(d_standard * standard, axis=1) / rank)[:, None]
    d_s = scale * (d_standard - mean - standard * along)
    tl.store(d_skill + row * rank + column, d_s.to(d_skill.dtype.element_ty), mask=inside)
    tl.store(d_task + row * rank + column, d_gate.to(d_task.dtype.element_ty), mask=inside)
    place = tl.program_id(0) * rank + column  # sums of this program's rows; summed once more in a fixed order
    tl.store(d_weight + place, tl.sum(d_normed * standard, axis=0)[None, :], mask=column < rank)
    tl.store(d_bias + place, tl.sum(d_normed, axis=0)[None, :], mask=column < rank)


@triton.jit
def _route(features, logits, expert, out, rows, rank, experts, k, feature_stride, logit_stride,
           KIND: tl.constexpr, ROWS: tl.constexpr, RANK: tl.constexpr, EXPERTS: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, RANK)[None, :]
    each = tl.arange(0, EXPERTS)[None, :]
    there = (row < rows) & (each < experts)
    scores = tl.load(logits + row * logit_stride + each, mask=there, other=float("-inf")).to(tl.float32)
    if KIND == 0:  # relu
        weights = tl.where(there, tl.maximum(scores, 0.0), 0.0)
    else:  # softmax over all experts, or over the k likeliest: those with fewer than k before them
        mine, other = scores[:, :, None], scores[:, None, :]
        first = tl.arange(0, EXPERTS)[None, None, :] < tl.arange(0, EXPERTS)[None, :, None]
        before = tl.sum(((other > mine) | ((other == mine) & first)).to(tl.int32), axis=2)
        chosen = there & (before < k)
        highest = tl.max(tl.where(there, scores, -1e30), axis=1)[:, None]
        powers = tl.where(chosen, tl.exp(tl.where(chosen, scores, highest) - highest), 0.0)
        total = tl.sum(powers, axis=1)[:, None]
        weights = powers / tl.where(total > 0, total, 1.0)
    inside = (row < rows) & (column < rank)
    owner = tl.load(expert + column, mask=column < rank, other=-1)
    owns = owner[:, :, None] == tl.arange(0, EXPERTS)[None, None, :]
    weight = tl.sum(tl.where(owns, weights[:, None, :], 0.0), axis=2)
    values = tl.load(features + row * feature_stride + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * rank + column, (values * weight).to(out.dtype.element_ty), mask=inside)


def norm_gate(skill: Tensor, task: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """LayerNorm(skill) * relu(task): (..., r) each, with weight and bias (r); one launch."""
    return _NormGate.apply(skill, task, weight, bias) if torch.is_grad_enabled() else _run(skill, task, weight, bias)


def route(features: Tensor, logits: Tensor, expert: Tensor, kind: str, k: int) -> Tensor:
    """Features (..., r) times their expert's weight; without gradients. One launch.

    Args:
        logits: (..., experts).
        expert: (r,), int32: whose each feature is.
        kind: "relu" or "softmax", the latter over the `k` likeliest.
    """
    flat, scores = _rows(features), _rows(logits)
    rank, experts = flat.shape[1], scores.shape[1]
    out = flat.new_empty(flat.shape)
    _launch(_route, (triton.cdiv(len(flat), ROWS),))(
        flat, scores, expert, out, len(flat), rank, experts, k, flat.stride(0), scores.stride(0),
        KIND=int(kind == "softmax"), ROWS=ROWS,
        RANK=triton.next_power_of_2(rank), EXPERTS=triton.next_power_of_2(experts),
    )  # fmt: skip
    return out.view(features.shape)


class _NormGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, skill: Tensor, task: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(skill, task, weight, bias)
        return _run(skill, task, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor, ...]:
        skill, task, weight, bias = ctx.saved_tensors
        s, t = _rows(skill), _rows(task)
        (rows, rank), programs = s.shape, triton.cdiv(len(s), ROWS)
        d_skill, d_task = s.new_empty(s.shape), t.new_empty(t.shape)
        sums = torch.empty(2, programs, rank, dtype=torch.float32, device=s.device)
        _launch(_norm_gate_backward, (programs,))(
            gradients[0].reshape(-1, rank).contiguous(), s, t, weight, bias, d_skill, d_task, sums[0], sums[1],
            rows, rank, s.stride(0), t.stride(0), EPS, ROWS=ROWS, RANK=triton.next_power_of_2(rank),
        )  # fmt: skip
        d_weight, d_bias = sums.sum(dim=1).to(weight.dtype)
        return d_skill.view(skill.shape), d_task.view(task.shape), d_weight, d_bias


def _run(skill: Tensor, task: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    s, t = _rows(skill), _rows(task)
    rows, rank = s.shape
    out = s.new_empty(s.shape)
    _launch(_norm_gate, (triton.cdiv(rows, ROWS),))(
        s, t, weight, bias, out, rows, rank, s.stride(0), t.stride(0), EPS,
        ROWS=ROWS, RANK=triton.next_power_of_2(rank),
    )  # fmt: skip
    return out.view(skill.shape)


def _launch(kernel: Any, programs: tuple[int, ...]) -> Any:
    """Triton's way to launch so many programs of a kernel; `triton.jit` leaves the type of a plain function."""
    return kernel[programs]


def _rows(tensor: Tensor) -> Tensor:
    """(..., n) -> (rows, n), by a view where the features of a row lie side by side."""
    flat = tensor.reshape(-1, tensor.shape[-1])
    return flat if flat.stride(1) == 1 else flat.contiguous()
