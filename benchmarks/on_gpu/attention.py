"""Attention over shared-prefix sequences, three ways: a dense mask, flex, and two mask-free calls that are joined.

A tree is causal within the prefix and within each branch, and branches see the whole prefix:

    own       every segment (prefix, branches) by itself, causal: one call over variable lengths
    prefix    the branches' queries on the prefix's keys, no mask: another such call
    joined    weights e^(lse_own - lse), e^(lse_prefix - lse) with lse = log(e^lse_own + e^lse_prefix)

Exact, forward and backward: a call's backward pass, given the joined output and its log-sum-exp, yields its share of
the gradients. What it costs beyond the calls is copies: the branches' queries and the prefix's keys are gathered, and
the shares are added back. Measured here for one layer, so that a choice rests on figures; training takes the dense mask
or flex (training.attention).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.on_gpu.clock import Bench
from components.batching.packing import tree_block_mask
from components.batching.tree import tree_mask


@dataclass(frozen=True)
class Layout:
    """Where segments lie among all places, row after row. Borders are those of segments: (segments + 1,), int32."""

    own: Tensor
    longest_own: int
    branches: Tensor  # places of tokens that are in a branch
    prefixes: Tensor  # places of tokens that are in a prefix
    branch_borders: Tensor  # row by row, among `branches`
    prefix_borders: Tensor
    longest_branches: int  # of a row, together
    longest_prefix: int

    @staticmethod
    def of(segments: Tensor) -> Layout:
        """segments: (rows, tokens), see packing.py. Reads values on the host: once a batch, not once a layer."""
        flat, device = segments.cpu().flatten(), segments.device
        starts = torch.arange(len(flat)) % segments.shape[1] == 0
        starts[1:] |= flat[1:] != flat[:-1]
        own = torch.cat([starts.nonzero()[:, 0], torch.tensor([len(flat)])])
        in_branch, in_prefix = (segments.cpu() > 0), (segments.cpu() == 0)
        numbers = [each.sum(1) for each in (in_branch, in_prefix)]
        borders = [torch.cat([torch.zeros(1, dtype=torch.long), each.cumsum(0)]) for each in numbers]
        return Layout(
            own.int().to(device),
            int(own.diff().max()),
            in_branch.flatten().nonzero()[:, 0].to(device),
            in_prefix.flatten().nonzero()[:, 0].to(device),
            borders[0].int().to(device),
            borders[1].int().to(device),
            int(numbers[0].max()),
            int(numbers[1].max()),
        )


class Joined(torch.autograd.Function):
    """(places, heads, width) queries, keys and values of all rows -> the same of outputs."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, calls: Any) -> Tensor:
        at = layout
        out, scores = calls.forward(query, key, value, at.own, at.own, at.longest_own, at.longest_own, True)
        few = query[at.branches]
        more, their_scores = calls.forward(
            few, key[at.prefixes], value[at.prefixes], at.branch_borders, at.prefix_borders,
            at.longest_branches, at.longest_prefix, False,
        )  # fmt: skip
        mine = scores[:, at.branches]  # (heads, places)
        both = torch.logaddexp(mine, their_scores)
        weights = [(each - both).exp().t().unsqueeze(-1).to(out.dtype) for each in (mine, their_scores)]
        out[at.branches] = out[at.branches] * weights[0] + more * weights[1]
        scores[:, at.branches] = both
        ctx.save_for_backward(query, key, value, out, scores)
        ctx.layout, ctx.calls = layout, calls
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, scores = ctx.saved_tensors
        at, gradient = ctx.layout, gradients[0].contiguous()
        d_query, d_key, d_value = ctx.calls.backward(
            gradient, query, key, value, out, scores, at.own, at.own, at.longest_own, at.longest_own, True
        )
        more = ctx.calls.backward(
            gradient[at.branches], query[at.branches], key[at.prefixes], value[at.prefixes], out[at.branches],
            scores[:, at.branches].contiguous(), at.branch_borders, at.prefix_borders,
            at.longest_branches, at.longest_prefix, False,
        )  # fmt: skip
        d_query.index_add_(0, at.branches, more[0])
        d_key.index_add_(0, at.prefixes, more[1])
        d_value.index_add_(0, at.prefixes, more[2])
        return d_query, d_key, d_value, None, None


class Flash:
    """torch's flash kernels over variable lengths."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, cq: Tensor, ck: Tensor, mq: int, mk: int, causal: bool):
        found = torch.ops.aten._flash_attention_forward(q, k, v, cq, ck, mq, mk, 0.0, causal, False)
        return found[0], found[1]

    @staticmethod
    def backward(g, q, k, v, out, scores, cq, ck, mq, mk, causal):
        none = torch.empty(2, dtype=torch.uint64, device=q.device)  # of dropout, which there is none of
        return torch.ops.aten._flash_attention_backward(
            g, q, k, v, out, scores, cq, ck, mq, mk, 0.0, causal, none, none
        )


class Plain:
    """The same calls in plain torch: what Flash is checked against, and what runs on a CPU."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, cq: Tensor, ck: Tensor, mq: int, mk: int, causal: bool):
        out, scores = torch.empty_like(q), q.new_empty(q.shape[1], len(q))
        for mine, theirs in _pairs(cq, ck):
            weights = _scores(q[mine], k[theirs], causal)
            scores[:, mine] = weights.logsumexp(-1)
            out[mine] = torch.einsum("hqk,khd->qhd", weights.softmax(-1), v[theirs])
        return out, scores

    @staticmethod
    def backward(g, q, k, v, out, scores, cq, ck, mq, mk, causal):
        """By flash attention's formula, which takes the output and the log-sum-exp as they are given."""
        d_q, d_k, d_v = (torch.zeros_like(each) for each in (q, k, v))
        along = (g * out).sum(-1).t().unsqueeze(-1)  # (heads, places, 1)
        for mine, theirs in _pairs(cq, ck):
            weights = (_scores(q[mine], k[theirs], causal) - scores[:, mine].unsqueeze(-1)).exp()
            d_v[theirs] = torch.einsum("hqk,qhd->khd", weights, g[mine])
            d_weights = torch.einsum("qhd,khd->hqk", g[mine], v[theirs])
            d_scores = weights * (d_weights - along[:, mine]) / math.sqrt(q.shape[-1])
            d_q[mine] = torch.einsum("hqk,khd->qhd", d_scores, k[theirs])
            d_k[theirs] = torch.einsum("hqk,qhd->khd", d_scores, q[mine])
        return d_q, d_k, d_v


def two_calls(query: Tensor, key: Tensor, value: Tensor, layout: Layout, calls: Any) -> Tensor:
    """(rows, heads, tokens, width) each, as scaled_dot_product_attention has them."""
    flat = [each.transpose(1, 2).flatten(0, 1) for each in (query, key, value)]
    out: Any = Joined.apply(*flat, layout, calls)
    return out.unflatten(0, (len(query), -1)).transpose(1, 2)


def layer(bench: Bench) -> None:
    """One layer of 7B's attention on UniFood's shape, forward and backward; and what the masks take to make."""
    rows, heads, width = (2, 2, 16) if bench.tiny else (8, 32, 128)
    prefix, branches = (20, (6, 9)) if bench.tiny else (611, (60, 150, 60))
    numbers = [0] * prefix + [n + 1 for n, length in enumerate(branches) for _ in range(length)]
    numbers += [-1] * (-len(numbers) % (16 if bench.tiny else 64))
    segments = torch.tensor([numbers] * rows, device=bench.device)
    shape = (rows, heads, len(numbers), width)
    q, k, v = (torch.randn(shape, device=bench.device, dtype=bench.dtype, requires_grad=True) for _ in range(3))
    mask, layout = tree_mask(segments), Layout.of(segments)
    calls = Flash() if bench.device.type == "cuda" else Plain()
    ways: dict[str, Callable[[], Tensor]] = {
        "dense mask": lambda: scaled_dot_product_attention(q, k, v, attn_mask=mask),
        "two calls": lambda: two_calls(q, k, v, layout, calls),
        "causal alone": lambda: scaled_dot_product_attention(q, k, v, is_causal=True),
    }
    if bench.device.type == "cuda":
        from torch.nn.attention.flex_attention import flex_attention

        compiled: Any = torch.compile(flex_attention)
        blocks = tree_block_mask(segments)
        ways["flex"] = lambda: compiled(q, k, v, block_mask=blocks)
    real = segments[0] >= 0
    wanted = ways["dense mask"]()[:, :, real]
    for name in [name for name in ways if name != "causal alone"]:
        off = float((ways[name]()[:, :, real] - wanted).detach().norm() / wanted.detach().norm())
        bench.emit(f"attention, {name}: off the dense mask's by", off)
    taken = bench.rotate({name: (lambda way=way: way().sum().backward()) for name, way in ways.items()})
    for name in ways:
        bench.emit_each(f"attention, {name}, forward and backward of a layer", taken[name], "ms", 1000)
    makers: dict[str, Callable[[], Any]] = {
        "dense mask": lambda: tree_mask(segments),
        "layout": lambda: Layout.of(segments),
    }
    if bench.device.type == "cuda":
        makers["flex blocks"] = lambda: tree_block_mask(segments)
    masks = bench.rotate(makers)
    for name, seconds in masks.items():
        bench.emit_each(f"attention, making the {name} of a batch", seconds, "ms", 1000)


def _pairs(cq: Tensor, ck: Tensor) -> list[tuple[slice, slice]]:
    borders = zip(pairwise(cq.tolist()), pairwise(ck.tolist()), strict=True)
    return [(slice(*mine), slice(*theirs)) for mine, theirs in borders]


def _scores(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """(queries, heads, width), (keys, heads, width) -> (heads, queries, keys)."""
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(q.shape[-1])
    if causal:
        later = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, -math.inf)
    return scores
