"""VCE as released, against its formula point by point and its published size; against the code itself: test_authors."""

import math

import pytest
import torch

from components.errors import UserError
from components.model.released_cue import ReleasedVisualCueEnhancement


def _levels(batch, patches, width, num_levels, dtype=torch.float64):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(batch, patches, width, generator=generator, dtype=dtype) for _ in range(num_levels)]


def _stirred(vce):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in vce.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return vce


def _read(pixels, grid, x, y):
    """A bilinear reading at column x and row y of a map (patches, channels); zeros outside."""
    rows, columns = grid
    total = torch.zeros(pixels.shape[1], dtype=pixels.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < rows and 0 <= column < columns:
                total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * pixels[row * columns + column]
    return total


def _naive(vce, levels, grid):
    """One patch, head, level and point at a time: one softmax over levels and points, V and W_out shared."""
    heads, points, num_levels = vce.num_heads, vce.num_points, vce.num_levels
    channels = vce.width // heads
    anchor = levels[vce.anchor]
    out = anchor.clone()
    for b in range(len(anchor)):
        maps = [vce.value(vce.feature_norm(x[b])) for x in levels]
        for q in range(grid[0] * grid[1]):
            query = vce.query_norm(anchor[b, q])
            offsets = vce.offsets(query).view(heads, num_levels, points, 2)
            parts = []
            for head in range(heads):
                weights = vce.attention(query).view(heads, -1)[head].softmax(0).view(num_levels, points)
                part = slice(head * channels, (head + 1) * channels)
                parts.append(
                    sum(
                        weights[level, k]
                        * _read(
                            maps[level][:, part],
                            grid,
                            q % grid[1] + offsets[head, level, k, 0].item(),
                            q // grid[1] + offsets[head, level, k, 1].item(),
                        )
                        for level in range(num_levels)
                        for k in range(points)
                    )
                )
            out[b, q] = anchor[b, q] + vce.scale * vce.output(torch.cat(parts))
    return out


def test_parameters_at_the_papers_dimensions_match_the_release():
    """FHTC: 2,892,544 parameters = 5.517 MiB in bf16, the unused LayerNorm's 2,048 among them."""
    with torch.device("meta"):
        vce = ReleasedVisualCueEnhancement(1024, 4)
        count = sum(p.numel() for p in vce.parameters())
        vce.keep_unused_norm()
    assert count == 2_892_544 - 2_048
    assert sum(p.numel() for p in vce.parameters()) == 2_892_544
    assert not any(p.requires_grad for p in vce.unused_norm.parameters())


@pytest.mark.parametrize("grid", [(3, 3), (2, 5)])
@pytest.mark.parametrize("anchor", [0, 1])
def test_forward_equals_the_formula_point_by_point(grid, anchor):
    vce = _stirred(ReleasedVisualCueEnhancement(12, 2, num_heads=3, num_points=2, scale=0.7, anchor=anchor).double())
    levels = _levels(2, grid[0] * grid[1], 12, 2)
    with torch.no_grad():
        torch.testing.assert_close(vce(levels, grid), _naive(vce, levels, grid), rtol=1e-9, atol=1e-9)


def test_attention_sums_to_one_over_all_levels_and_points():
    cue = _stirred(ReleasedVisualCueEnhancement(12, 3, num_heads=2).double()).inspect(_levels(1, 9, 12, 3), (3, 3))
    torch.testing.assert_close(cue.attention.sum(dim=(-1, -2)), torch.ones(1, 9, 2, dtype=torch.float64))


def test_identity_start_returns_the_anchor_and_still_learns():
    vce = ReleasedVisualCueEnhancement(24, 2, num_heads=4, start="identity")
    levels = _levels(1, 9, 24, 2, torch.float32)
    out = vce(levels, (3, 3))
    assert torch.equal(out, levels[0])
    out.square().sum().backward()
    assert vce.output.weight.grad is not None
    assert vce.output.weight.grad.abs().sum() > 0


def test_gradients_of_every_parameter_are_exact():
    vce = _stirred(ReleasedVisualCueEnhancement(4, 2, num_heads=2, num_points=2).double())
    levels = [x.requires_grad_() for x in _levels(1, 6, 4, 2)]
    names = [name for name, _ in vce.named_parameters()]

    def run(*tensors):
        return torch.func.functional_call(vce, dict(zip(names, tensors[2:], strict=True)), (tensors[:2], (2, 3)))

    assert torch.autograd.gradcheck(run, (*levels, *vce.parameters()))


def test_the_width_need_not_divide_by_the_levels():
    assert ReleasedVisualCueEnhancement(6, 4, num_heads=3)(_levels(1, 4, 6, 4, torch.float32), (2, 2)).shape == (
        1,
        4,
        6,
    )
    with pytest.raises(UserError, match="width 6 must divide by num_heads = 4"):
        ReleasedVisualCueEnhancement(6, 4, num_heads=4)
