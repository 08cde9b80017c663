"""Attention over shared-prefix sequences: a dense mask or flex, and plain causal attention as what no mask can beat.

One layer of 7B's on UniFood's shape, forward and backward, and what the masks take to make. Two mask-free flash calls,
joined by their log-sum-exp, were measured here too: exact, but 2.8 ms a layer on an H200 where the mask takes 1.7, for
the copies between them cost more than the mask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.on_gpu.clock import Bench
from components.batching.packing import tree_block_mask
from components.batching.tree import tree_mask


def layer(bench: Bench) -> None:
    rows, heads, width = (2, 2, 16) if bench.tiny else (8, 32, 128)
    prefix, branches = (20, (6, 9)) if bench.tiny else (611, (60, 150, 60))
    numbers = [0] * prefix + [n + 1 for n, length in enumerate(branches) for _ in range(length)]
    numbers += [-1] * (-len(numbers) % (16 if bench.tiny else 64))
    segments = torch.tensor([numbers] * rows, device=bench.device)
    shape = (rows, heads, len(numbers), width)
    q, k, v = (torch.randn(shape, device=bench.device, dtype=bench.dtype, requires_grad=True) for _ in range(3))
    mask = tree_mask(segments)
    ways: dict[str, Callable[[], Tensor]] = {
        "dense mask": lambda: scaled_dot_product_attention(q, k, v, attn_mask=mask),
        "causal alone": lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
    }
    makers: dict[str, Callable[[], Any]] = {"dense mask": lambda: tree_mask(segments)}
    if bench.device.type == "cuda":
        from torch.nn.attention.flex_attention import flex_attention

        compiled: Any = torch.compile(flex_attention)
        blocks = tree_block_mask(segments)
        ways["flex"] = lambda: compiled(q, k, v, block_mask=blocks)
        makers["flex blocks"] = lambda: tree_block_mask(segments)
        real = segments[0] >= 0
        wanted = ways["dense mask"]()[:, :, real]
        off = float((ways["flex"]()[:, :, real] - wanted).detach().norm() / wanted.detach().norm())
        bench.emit("attention, flex: off the dense mask's by", off)
    taken = bench.rotate({name: (lambda way=way: way().sum().backward()) for name, way in ways.items()})
    for name in ways:
        bench.emit_each(f"attention, {name}, forward and backward of a layer", taken[name], "ms", 1000)
    for name, seconds in bench.rotate(makers).items():
        bench.emit_each(f"attention, making the {name} of a batch", seconds, "ms", 1000)
