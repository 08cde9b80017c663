"""Two mask-free calls, joined, beside the dense mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.on_gpu.attention import Layout, Plain, two_calls
from components.batching.tree import tree_mask

ROWS = [
    [0] * 7 + [1] * 3 + [2] * 4 + [-1] * 2,
    [1] * 9 + [-1] * 7,  # a sample alone has no prefix
    [0] * 5 + [1] * 2 + [2] * 3 + [3] * 6,
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_calls_equal_the_dense_mask_forward_and_backward(dtype: torch.dtype) -> None:
    segments = torch.tensor(ROWS)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, 16, 8, dtype=dtype, generator=generator).requires_grad_() for _ in range(3))
    real = (segments >= 0)[:, None, :, None]
    direction = torch.randn(3, 2, 16, 8, dtype=dtype, generator=generator) * real
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=tree_mask(segments)) * real
    found = two_calls(q, k, v, Layout.of(segments), Plain()) * real
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(each, (q, k, v), direction) for each in (wanted, found)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)
