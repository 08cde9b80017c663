"""VCE's gathers on a GPU: the same bits each time, and what grid_sample reads."""

from __future__ import annotations

import pytest
import torch

from components.model.bilinear import by_grid_sample, together

pytestmark = pytest.mark.gpu


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
