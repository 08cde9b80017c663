"""What devices compute in one kernel and torch takes apart on the meta device.

Taken apart, attention would keep all (tokens x tokens) scores and SiLU's gradient would need four tensors where a
device needs one: the count would be of another program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import flop_registry

from components.adapters import fast
from components.model import blocks

_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


@contextmanager
def whole_kernels(on_gpu: bool = False) -> Iterator[None]:
    """While it is open, torch's attention and SiLU are single kernels on the meta device too, forward and backward.

    on_gpu: so are dropout, which keeps a byte for each number there (a CPU keeps a mask in the numbers' own precision),
    and what this project has kernels for on GPUs: the adapters' and the blocks' small work.

    The functions are exchanged, rather than caught by a mode, because modes are off where activations are recomputed.
    """
    functional: Any = nn.functional
    whole = _WHOLE | (_WHOLE_ON_GPUS if on_gpu else {})
    replaced = {name: getattr(functional, name) for name in whole}
    for name, function in whole.items():
        setattr(functional, name, function)
    fast.on_meta = blocks.on_meta = OwnKernels if on_gpu else None
    try:
        yield
    finally:
        fast.on_meta = blocks.on_meta = None
        for name, function in replaced.items():
            setattr(functional, name, function)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The fused attention: it keeps its inputs, its mask as numbers and one number per head and token."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, dim=-3), value.repeat_interleave(repeats, dim=-3)
    if attn_mask is not None and attn_mask.dtype == torch.bool:  # torch does so in every layer
        attn_mask = torch.where(attn_mask, query.new_zeros(()), -torch.inf)
    return _attention(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


class _Silu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.ops.aten.silu(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        ctx.saved_tensors  # noqa: B018 (recomputes the input where activations are checkpointed)
        return torch.empty_like(gradients[0])


def silu(x: Tensor, inplace: bool = False) -> Tensor:
    result = _Silu.apply(x)
    assert isinstance(result, Tensor)
    return result


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(torch.empty_like(x, dtype=torch.bool))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        ctx.saved_tensors  # noqa: B018 (as above)
        return torch.empty_like(gradients[0])


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or not p:
        return input
    result = _Dropout.apply(input)
    assert isinstance(result, Tensor)
    return result


class _Kernel(torch.autograd.Function):
    """One launch: from `inputs` to something like the first of them; keeps `kept` and so many numbers in fp32."""

    @staticmethod
    def forward(ctx: Any, kept: Sequence[Tensor], numbers: int, *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*kept, inputs[0].new_empty(numbers, dtype=torch.float32))
        ctx.like = [torch.Size(each.shape) for each in inputs]
        return inputs[0].new_empty(inputs[0].shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ctx.saved_tensors  # noqa: B018 (as above)
        needed = zip(ctx.like, ctx.needs_input_grad[2:], strict=True)
        return None, None, *(gradients[0].new_empty(shape) if wanted else None for shape, wanted in needed)


class OwnKernels:
    """This project's kernels, as components/adapters/kernels.py and components/model/block_kernels.py have them."""

    @staticmethod
    def norm_gate(skill: Tensor, task: Tensor, weight: Tensor, bias: Tensor) -> Any:
        return _Kernel.apply((skill, task, weight, bias), 0, skill, task, weight, bias)

    @staticmethod
    def route(features: Tensor, logits: Tensor, expert: Tensor, kind: str, k: int) -> Tensor:
        return features.new_empty(features.shape)

    @staticmethod
    def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Any:
        return _Kernel.apply((x, weight), x.numel() // x.shape[-1], x)

    @staticmethod
    def gated(gate: Tensor, up: Tensor) -> Any:
        return _Kernel.apply((gate, up), 0, gate, up)

    @staticmethod
    def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Any:
        return _Kernel.apply((cos, sin), 0, x)


_WHOLE_ON_GPUS = {"dropout": dropout}
_WHOLE = {"scaled_dot_product_attention": attention, "silu": silu}


def _attention_flops(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Two products over all pairs of queries and keys; a mask saves nothing."""
    batch, heads, queries, width = query.shape
    return 2 * batch * heads * queries * key.shape[-2] * (width + value.shape[-1])


def _attention_backward_flops(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    """Five products: the scores again, and two for each of the forward's."""
    return _attention_flops(query, key, value) * 5 // 2


FLOPS: dict[Any, Callable[..., int]] = {
    **flop_registry,
    _attention: _attention_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
}
