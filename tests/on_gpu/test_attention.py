"""Attention over trees by torch's flash kernels, beside the dense mask; VCE's gathers beside grid_sample."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.on_gpu.attention import Flash, Layout, Plain, two_calls
from components.batching.tree import tree_mask
from components.model.bilinear import by_grid_sample, together
from tests.benchmarks.test_attention import ROWS
from tests.on_gpu.conftest import ON_CPU

pytestmark = pytest.mark.gpu


def test_two_calls_equal_the_dense_mask(device: torch.device) -> None:
    """In bf16, which flash attention computes in; off by what bf16 rounds."""
    segments = torch.tensor(ROWS, device=device).repeat_interleave(8, dim=1)
    dtype = torch.float32 if ON_CPU else torch.bfloat16
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 4, 128, 64, device=device, dtype=dtype, requires_grad=True) for _ in range(3))
    real = (segments >= 0)[:, None, :, None]
    wanted = scaled_dot_product_attention(q, k, v, attn_mask=tree_mask(segments)) * real
    found = two_calls(q, k, v, Layout.of(segments), Plain() if ON_CPU else Flash()) * real
    direction = torch.randn_like(wanted)
    gradients = [torch.autograd.grad(each, (q, k, v), direction) for each in (wanted, found)]
    for one, other in zip((found, *gradients[1]), (wanted, *gradients[0]), strict=True):
        assert (one - other).float().norm() < 0.02 * other.float().norm()


def test_vce_reads_the_same_bits_twice_and_what_grid_sample_reads(device: torch.device) -> None:
    torch.manual_seed(0)
    values = [torch.randn(2, 576, 256, device=device, requires_grad=True) for _ in range(4)]
    locations = torch.rand(2, 576, 16, 4, 4, 2, device=device).mul(1.4).sub(0.2).requires_grad_()
    attention = torch.rand(2, 576, 16, 4, 4, device=device, requires_grad=True)
    inputs = (*values, locations, attention)

    def read() -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        out = torch.stack(together(values, (24, 24), locations, attention))
        return out.detach(), torch.autograd.grad(out.square().sum(), inputs)

    (first, gradients), (again, same) = read(), read()
    assert torch.equal(first, again)
    assert all(torch.equal(one, other) for one, other in zip(gradients, same, strict=True))
    parts = zip(values, locations.unbind(3), attention.unbind(3), strict=True)
    wanted = torch.stack([by_grid_sample(value, (24, 24), at, weights) for value, at, weights in parts])
    torch.testing.assert_close(first, wanted, rtol=1e-4, atol=1e-4)
