"""Llama's blocks with the small work between their products as one kernel each, on CUDA devices.

Norms in fp32, rotary embedding and SwiGLU are forty passes over memory a block, a quarter of a training step at 7B.
`fuse` exchanges the classes of transformers' modules for the ones below, which compute the same by block_kernels.py
where that can be, and by transformers' own code, their plain twin, everywhere else:

    on CPUs; in a compiled region, which fuses by itself; for norms that are trained; where a kernel cannot be built or
    differs from its twin, which is tried once for each device and precision

Names, parameters and state stay as they are.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaAttention,
    LlamaMLP,
    LlamaRMSNorm,
    apply_rotary_pos_emb,
)

from components.adapters.fast import can_launch, if_they_agree

CLOSE = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}  # of numbers of about 1
on_meta: Any = None  # stands in for the kernels where a plan counts what a GPU would keep (components/costs/kernels.py)


class FusedNorm(LlamaRMSNorm):
    """RMSNorm: (..., width) -> the same."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        kernels = None if self.weight.requires_grad else _kernels(hidden_states)
        if kernels is None or self.weight.dtype != hidden_states.dtype:
            return super().forward(hidden_states)
        return kernels.rms_norm(hidden_states, self.weight, self.variance_epsilon)


class FusedMLP(LlamaMLP):
    """SwiGLU: (..., width) -> the same."""

    def forward(self, x: Tensor) -> Tensor:
        kernels = _kernels(x) if self.config.hidden_act in ("silu", "swish") else None
        if kernels is None:
            return super().forward(x)
        return self.down_proj(kernels.gated(self.gate_proj(x), self.up_proj(x)))


class FusedAttention(LlamaAttention):
    """Attention whose queries and keys are turned by a kernel; the rest is transformers' own, step by step."""

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor] | None = None,
        attention_mask: Any = None,
        past_key_values: Any = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        kernels = _kernels(hidden_states)
        attend = ALL_ATTENTION_FUNCTIONS.get(self.config._attn_implementation)  # none: eager
        if kernels is None or attend is None or position_embeddings is None:
            return super().forward(hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs)
        shape = hidden_states.shape[:-1]
        query, key, value = (
            project(hidden_states).view(*shape, -1, self.head_dim).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = (kernels.rotated(each, *position_embeddings) for each in (query, key))
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        dropout = self.attention_dropout if self.training else 0.0
        seen, weights = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)
        return self.o_proj(seen.reshape(*shape, -1).contiguous()), weights


FUSED = {LlamaRMSNorm: FusedNorm, LlamaMLP: FusedMLP, LlamaAttention: FusedAttention}


def fuse(model: nn.Module) -> None:
    """Exchange the classes of Llama's modules, in place; a language model of another kind stays as it is."""
    for module in model.modules():
        module.__class__ = FUSED.get(type(module), type(module))


def unfuse(model: nn.Module) -> None:
    """The inverse."""
    plain = {fused: its for its, fused in FUSED.items()}
    for module in model.modules():
        module.__class__ = plain.get(type(module), type(module))


def _kernels(like: Tensor) -> Any:
    """The module of kernels for such a tensor, or None."""
    if like.is_meta:
        return on_meta
    if not can_launch(like) or like.dtype not in CLOSE:
        return None
    return _checked(like.device, like.dtype)


@cache
def _checked(device: torch.device, dtype: torch.dtype) -> Any:
    return if_they_agree(f"{__package__}.block_kernels", differences, CLOSE[dtype], device, dtype)


def differences(kernels: Any, device: torch.device, dtype: torch.dtype, tokens: int = 37, width: int = 48) -> float:
    """How far the kernels are from their twins at most, in values and gradients.

    The numbers come from no generator: drawing some would change what a run draws after it.
    """
    waves = torch.arange(2 * 3 * tokens * width, device=device, dtype=torch.float32)
    first = (waves * 0.7).sin().add((waves * waves * 0.013).cos()).view(2, tokens, 3, width).to(dtype).requires_grad_()
    second = (waves * 1.3).cos().add((waves * 0.31).sin()).view(2, tokens, 3, width).to(dtype).requires_grad_()
    weight, direction = (waves[:width] * 0.3).cos().to(dtype), (waves * 0.11).sin().view(2, tokens, 3, width).to(dtype)
    norm = LlamaRMSNorm(width).to(device, dtype).requires_grad_(False)
    norm.weight.copy_(weight)
    angles = waves[: 2 * tokens * width].view(2, tokens, width)
    cos, sin = (angles * 0.05).cos().to(dtype), (angles * 0.05).sin().to(dtype)
    query = first.transpose(1, 2)
    pairs = [
        (norm(first), kernels.rms_norm(first, weight, norm.variance_epsilon)),
        (functional.silu(first) * second, kernels.gated(first, second)),
        *(
            (
                apply_rotary_pos_emb(query, query, *turn)[0].transpose(1, 2),
                kernels.rotated(query, *turn).transpose(1, 2),
            )
            for turn in ((cos, sin), (cos[:1], sin[:1]))
        ),
    ]
    pairs += [
        pair
        for wanted, found in list(pairs)
        for pair in zip(
            *(torch.autograd.grad(each, (first, second), direction, allow_unused=True) for each in (wanted, found)),
            strict=True,
        )
        if pair[0] is not None
    ]
    return max(float((a - b).detach().abs().max() / a.detach().abs().max().clamp(min=1)) for a, b in pairs)
