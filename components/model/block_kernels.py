"""The small work of Llama's blocks as one kernel each, forward and backward (Triton). Imported on CUDA devices alone.

Their plain twins are transformers' own modules; blocks.py says when these run. Computed in fp32, rounded once to the
precision of the inputs; sums run over a row in a fixed order, so that the same inputs give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor
from torch.autograd.function import once_differentiable

NUMBERS = 1024  # of an elementwise program
WARPS = 8


@triton.jit
def _norm(x, weight, out, scales, columns, eps, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    inside = column < columns
    values = tl.load(x + row * columns + column, mask=inside, other=0.0).to(tl.float32)
    scale = 1 / tl.sqrt(tl.sum(values * values, axis=0) / columns + eps)
    weights = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    normed = (values * scale).to(out.dtype.element_ty).to(tl.float32)  # rounded here, as the twin does
    tl.store(out + row * columns + column, (normed * weights).to(out.dtype.element_ty), mask=inside)
    tl.store(scales + row, scale)


@triton.jit
def _norm_backward(gradient, x, weight, scales, out, columns, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    inside = column < columns
    scale = tl.load(scales + row)
    normed = tl.load(x + row * columns + column, mask=inside, other=0.0).to(tl.float32) * scale
    weights = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    towards = tl.load(gradient + row * columns + column, mask=inside, other=0.0).to(tl.float32) * weights
    along = tl.sum(towards * normed, axis=0) / columns
    tl.store(out + row * columns + column, (scale * (towards - normed * along)).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gate(gate, up, out, numbers, NUMBERS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * NUMBERS + tl.arange(0, NUMBERS)
    inside = place < numbers
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    opened = (g / (1 + tl.exp(-g))).to(out.dtype.element_ty).to(tl.float32)  # rounded here, as the twin does
    tl.store(out + place, (opened * u).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _gate_backward(gradient, gate, up, d_gate, d_up, numbers, NUMBERS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * NUMBERS + tl.arange(0, NUMBERS)
    inside = place < numbers
    towards = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    u = tl.load(up + place, mask=inside, other=0.0).to(tl.float32)
    share = 1 / (1 + tl.exp(-g))
    tl.store(d_up + place, (towards * g * share).to(d_up.dtype.element_ty), mask=inside)
    slope = share * (1 + g * (1 - share))
    tl.store(d_gate + place, (towards * u * slope).to(d_gate.dtype.element_ty), mask=inside)


@triton.jit
def _rotate(x, cos, sin, out, tokens, heads, half, x_row, x_head, x_token, turn_row, turn_token, sign,
            HEADS: tl.constexpr, HALF: tl.constexpr):  # fmt: skip
    token, row = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)  # the first may be beyond 65,535
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (column < half)
    turn = row * turn_row + token * turn_token + column
    c1 = tl.load(cos + turn, mask=column < half, other=0.0).to(tl.float32)
    c2 = tl.load(cos + turn + half, mask=column < half, other=0.0).to(tl.float32)
    s1 = tl.load(sin + turn, mask=column < half, other=0.0).to(tl.float32)
    s2 = tl.load(sin + turn + half, mask=column < half, other=0.0).to(tl.float32)
    place = x + row * x_row + token * x_token + head * x_head + column
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + half, mask=inside, other=0.0).to(tl.float32)
    if sign > 0:  # forward: x cos + (-second, first) sin
        turned_first, turned_second = first * c1 - second * s1, second * c2 + first * s2
    else:  # its transpose
        turned_first, turned_second = first * c1 + second * s2, second * c2 - first * s1
    to = out + ((row * tokens + token) * heads + head) * (2 * half) + column
    tl.store(to, turned_first.to(out.dtype.element_ty), mask=inside)
    tl.store(to + half, turned_second.to(out.dtype.element_ty), mask=inside)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Weight * x / sqrt(mean(x^2) + eps), (..., columns), with weight (columns), which gets no gradient."""
    return _RmsNorm.apply(x, weight, eps) if torch.is_grad_enabled() else _normed(x, weight, eps)[0]


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """SiLU(gate) * up, both (..., n)."""
    return _Gated.apply(gate, up) if torch.is_grad_enabled() else _opened(gate, up)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding: (rows, heads, tokens, width) by angles of (rows or 1, tokens, width)."""
    return _Rotated.apply(x, cos, sin) if torch.is_grad_enabled() else _turned(x, cos, sin, 1)


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, scales = _normed(x, weight, eps)
        ctx.save_for_backward(x, weight, scales)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scales = ctx.saved_tensors
        flat = x.contiguous()
        out = torch.empty_like(flat)
        _launch(_norm_backward, (scales.numel(),))(
            gradients[0].contiguous(), flat, weight, scales, out, x.shape[-1],
            COLUMNS=triton.next_power_of_2(x.shape[-1]), num_warps=WARPS,
        )  # fmt: skip
        return out, None, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _opened(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = (each.contiguous() for each in ctx.saved_tensors)
        d_gate, d_up = torch.empty_like(gate), torch.empty_like(up)
        _launch(_gate_backward, (triton.cdiv(gate.numel(), NUMBERS),))(
            gradients[0].contiguous(), gate, up, d_gate, d_up, gate.numel(), NUMBERS=NUMBERS
        )
        return d_gate, d_up


class _Rotated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, sin, -1), None, None


def _normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    flat = x.contiguous()
    columns = x.shape[-1]
    rows = flat.numel() // columns
    out, scales = torch.empty_like(flat), torch.empty(rows, dtype=torch.float32, device=x.device)
    _launch(_norm, (rows,))(
        flat, weight, out, scales, columns, eps, COLUMNS=triton.next_power_of_2(columns), num_warps=WARPS
    )
    return out, scales


def _opened(gate: Tensor, up: Tensor) -> Tensor:
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    _launch(_gate, (triton.cdiv(gate.numel(), NUMBERS),))(gate, up, out, gate.numel(), NUMBERS=NUMBERS)
    return out


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    """Turn forth or back; in memory the tokens' heads lie side by side, as linear layers leave and take them."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    cos, sin = cos.contiguous(), sin.contiguous()
    rows, heads, tokens, width = x.shape
    out = torch.empty(rows, tokens, heads, width, dtype=x.dtype, device=x.device)
    _launch(_rotate, (tokens, rows))(
        x, cos, sin, out, tokens, heads, width // 2, x.stride(0), x.stride(1), x.stride(2),
        cos.stride(0) if len(cos) > 1 else 0, cos.stride(1), sign,
        HEADS=triton.next_power_of_2(heads), HALF=triton.next_power_of_2(width // 2),
    )  # fmt: skip
    return out.transpose(1, 2)


def _launch(kernel: Any, programs: tuple[int, ...]) -> Any:
    """Triton's way to launch so many programs of a kernel; `triton.jit` leaves the type of a plain function."""
    return kernel[programs]
