"""Two matrices that share their input: one tensor in the model, for the sake of one GEMM, and two names in the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

Tensors = dict[str, torch.Tensor]


class JointLinear(nn.Linear):
    """[A; B] without bias: A reads what dropout leaves of x, B reads x; one product where these are the same."""

    def __init__(self, in_features: int, first: int, second: int, **factory: Any) -> None:
        super().__init__(in_features, first + second, bias=False, **factory)
        self.rows = (first, second)

    def forward(self, x: torch.Tensor, dropped: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        """x and what dropout leaves of it (..., in) -> A dropped (..., first), B x (..., second)."""
        if dropped is x:
            first, second = functional.linear(x, self.weight).split(self.rows, dim=-1)
            return first, second
        upper, lower = self.weight.split(self.rows)
        return functional.linear(dropped, upper), functional.linear(x, lower)


def split_rows(entries: Tensors, fused: str, names: tuple[str, str], num_first: Callable[[int], int]) -> Tensors:
    """Replace every tensor under the key segment `fused` by its upper and lower rows under two names.

    Args:
        entries: state dict; keys look like `path.fused.adapter.weight`.
        num_first: from the number of rows to how many of them belong to the first name.
    """
    split: Tensors = {}
    for key, tensor in entries.items():
        path, found, rest = key.rpartition(f".{fused}.")
        if not found:
            split[key] = tensor
            continue
        if tensor.dim() != 2:  # ZeRO-3 and FSDP leave a flat shard in place of the matrix
            raise ValueError(
                f"{key} has shape {tuple(tensor.shape)}: the weights are partitioned; gather them before saving "
                "(deepspeed.zero.GatheredParameters(parameters, modifier_rank=None))"
            )
        border = num_first(tensor.shape[0])
        # Copies: safetensors refuses two tensors that share their memory.
        split[f"{path}.{names[0]}.{rest}"] = tensor[:border].clone()
        split[f"{path}.{names[1]}.{rest}"] = tensor[border:].clone()
    return split


def join_rows(entries: Tensors, fused: str, names: tuple[str, str], num_first: Callable[[int], int]) -> Tensors:
    """The inverse of `split_rows`; a part without the other, or with rows of the other, is refused."""
    joined: Tensors = {}
    first, second = (f".{name}." for name in names)
    for key, tensor in entries.items():
        path, found, rest = key.rpartition(first)
        if found:
            partner = f"{path}{second}{rest}"
            if partner not in entries:
                raise ValueError(f"the adapter file holds {key} but not {partner}; it is damaged or of another method")
            whole = torch.cat([tensor, entries[partner]])
            if num_first(len(whole)) != len(tensor):
                rows = f"{len(tensor)} rows beside {len(entries[partner])} of {names[1]}"
                raise ValueError(f"the adapter file's {key} has {rows}; it is damaged or of other settings")
            joined[f"{path}.{fused}.{rest}"] = whole
        elif not key.rpartition(second)[1]:
            joined[key] = tensor
        elif key.replace(second, first) not in entries:
            raise ValueError(f"the adapter file holds {key} but not its partner {names[0]}; it is damaged")
    return joined


def rename(entries: Tensors, pattern: str, replacement: str) -> Tensors:
    """The entries under other keys: what `re.sub` makes of them."""
    return {re.sub(pattern, replacement, key): tensor for key, tensor in entries.items()}
