"""VCE against its formula, its published size and the deformable attention of transformers."""

import math

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from components.errors import UserError
from components.model.bilinear import by_gathers, by_grid_sample, sample_levels, together
from components.model.deformable import patch_centres
from components.model.visual_cue import VisualCueEnhancement


def _levels(batch: int, patches: int, width: int, num_levels: int, dtype: torch.dtype = torch.float64):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(batch, patches, width, generator=generator, dtype=dtype) for _ in range(num_levels)]


def _stirred(vce: VisualCueEnhancement) -> VisualCueEnhancement:
    """Every parameter away from its start, so that no term hides behind a zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in vce.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return vce


def _naive(vce: VisualCueEnhancement, levels, grid):
    """The formula of paper 3.3, one patch, level, head and point at a time."""
    rows, columns = grid
    heads, points, num_levels = vce.num_heads, vce.num_points, vce.num_levels
    channels = vce.width // num_levels // heads
    anchor = levels[vce.anchor]
    out = anchor.clone()
    for b in range(anchor.shape[0]):
        maps = [
            (x[b] + vce.level_embedding[index]) @ vce.values[index].weight.T + vce.values[index].bias
            for index, x in enumerate(levels)
        ]
        for q in range(rows * columns):
            query = vce.query_norm(anchor[b, q])
            offsets = vce.offsets(query).view(heads, num_levels, points, 2)
            logits = vce.attention(query).view(heads, num_levels, points)
            parts = []
            for level in range(num_levels):
                for head in range(heads):
                    weights = logits[head, level].softmax(0)
                    total = torch.zeros(channels, dtype=anchor.dtype)
                    for k in range(points):
                        x = q % columns + offsets[head, level, k, 0].item()
                        y = q // columns + offsets[head, level, k, 1].item()
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < rows and 0 <= column < columns:
                                    near = (1 - abs(y - row)) * (1 - abs(x - column))
                                    pixel = maps[level][row * columns + column]
                                    total = total + weights[k] * near * pixel[head * channels : (head + 1) * channels]
                    parts.append(total)
            out[b, q] = anchor[b, q] + vce.scale * vce.norm(vce.aggregate(torch.cat(parts)))
    return out


def test_parameters_at_the_papers_dimensions_match_the_published_size():
    """Paper 3.3 and introduction: 5.52 MB (5.53 in the introduction) in bf16."""
    with torch.device("meta"):
        vce = VisualCueEnhancement(1024, 4)
        other = VisualCueEnhancement(1024, 4, num_heads=8, num_points=8)
    count = sum(p.numel() for p in vce.parameters())
    assert count == 2_894_592
    assert round(count * 2 / 2**20, 2) == 5.52
    assert sum(p.numel() for p in other.parameters()) == count


@pytest.mark.parametrize("grid", [(3, 3), (2, 5)])
@pytest.mark.parametrize("anchor", [0, 1])
def test_forward_equals_the_formula_point_by_point(grid, anchor):
    vce = _stirred(VisualCueEnhancement(12, 2, num_heads=3, num_points=2, scale=0.7, anchor=anchor).double())
    levels = _levels(2, grid[0] * grid[1], 12, 2)
    with torch.no_grad():
        torch.testing.assert_close(vce(levels, grid), _naive(vce, levels, grid), rtol=1e-9, atol=1e-9)


WAYS = [by_grid_sample, by_gathers]


@pytest.mark.parametrize("read", WAYS)
def test_sampling_of_one_level_equals_transformers_deformable_attention(read):
    from transformers.models.deformable_detr.modeling_deformable_detr import MultiScaleDeformableAttention

    grid, heads, channels, points = (4, 7), 3, 5, 6
    value = torch.randn(2, 28, heads * channels)
    locations = torch.rand(2, 28, heads, points, 2) * 1.4 - 0.2  # some lie outside the image
    attention = torch.rand(2, 28, heads, points)
    theirs = MultiScaleDeformableAttention()(
        value.view(2, 28, heads, channels),
        torch.tensor([grid]),
        [grid],
        torch.tensor([0]),
        locations.unsqueeze(3),
        attention.unsqueeze(3),
        64,
    )
    torch.testing.assert_close(read(value, grid, locations, attention), theirs)


def test_both_ways_of_sampling_agree_in_outputs_and_gradients():
    generator = torch.Generator().manual_seed(1)
    value = torch.randn(2, 28, 15, generator=generator)
    locations = torch.rand(2, 9, 3, 6, 2, generator=generator) * 1.6 - 0.3  # some lie outside the image
    attention, weights = torch.rand(2, 9, 3, 6, generator=generator), torch.randn(2, 9, 15, generator=generator)
    found = []
    for read in WAYS:
        inputs = [tensor.clone().requires_grad_() for tensor in (value, locations, attention)]
        output = read(inputs[0], (4, 7), inputs[1], inputs[2])
        found.append([output, *torch.autograd.grad(output, inputs, weights)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * other.abs().max().item())


def test_levels_read_together_equal_those_read_one_by_one():
    generator = torch.Generator().manual_seed(4)
    values = [torch.randn(2, 16, 12, generator=generator, requires_grad=True) for _ in range(3)]
    locations = torch.rand(2, 16, 4, 3, 2, 2, generator=generator).mul(1.4).sub(0.2).requires_grad_()
    attention = torch.rand(2, 16, 4, 3, 2, generator=generator, requires_grad=True)
    found = torch.stack(together(values, (4, 4), locations, attention))
    wanted = torch.stack(sample_levels(values, (4, 4), locations, attention))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    inputs = (*values, locations, attention)
    gradients = [torch.autograd.grad(each.square().sum(), inputs) for each in (found, wanted)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * other.abs().max().item())


def test_reading_four_levels_together_takes_few_launches():
    """A GPU pays for each: one level after the other, the four corners in a loop, it took 448."""
    values = [torch.randn(1, 16, 8) for _ in range(4)]
    locations, attention = torch.rand(1, 16, 2, 4, 2, 2), torch.rand(1, 16, 2, 4, 2)
    with _Launches() as counter:
        together(values, (4, 4), locations, attention)
    assert counter.count <= 32, counter.count


class _Launches(TorchDispatchMode):
    """Counts operators that return no view."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not (func.is_view or func is torch.ops.aten._unsafe_view.default)
        return func(*args, **(kwargs or {}))


def test_sampling_by_gathers_has_exact_gradients():
    generator = torch.Generator().manual_seed(2)
    value = torch.randn(1, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    locations = torch.rand(1, 3, 2, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    attention = torch.rand(1, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v, p, a: by_gathers(v, (2, 3), p, a), (value, locations, attention))


@pytest.mark.gpu
def test_gradients_on_a_gpu_are_the_same_to_the_bit_each_time():
    torch.use_deterministic_algorithms(True, warn_only=False)
    try:
        vce = VisualCueEnhancement(256, 4, num_heads=16).cuda()
        levels = [level.cuda() for level in _levels(8, 576, 256, 4, torch.float32)]
        first, second = (
            torch.autograd.grad(vce(levels, (24, 24)).square().sum(), list(vce.parameters())) for _ in "12"
        )
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_identity_start_returns_the_anchor_and_still_learns():
    vce = VisualCueEnhancement(24, 2, num_heads=4, start="identity")
    levels = _levels(1, 9, 24, 2, torch.float32)
    out = vce(levels, (3, 3))
    assert torch.equal(out, levels[0])
    out.square().sum().backward()
    assert vce.norm.weight.grad is not None
    assert vce.norm.weight.grad.abs().sum() > 0


def test_paper_start_adds_a_full_normalised_cue():
    vce = VisualCueEnhancement(24, 2, num_heads=4)
    levels = _levels(1, 9, 24, 2, torch.float32)
    added = vce(levels, (3, 3)) - levels[0]
    torch.testing.assert_close(added.var(dim=-1, correction=0), torch.ones(1, 9), rtol=1e-3, atol=1e-3)


def test_fresh_points_lie_around_the_patch_as_in_deformable_detr():
    vce = VisualCueEnhancement(16, 2, num_heads=4, num_points=3)
    cue = vce.inspect(_levels(1, 20, 16, 2, torch.float32), (4, 5))
    assert cue.cue.shape == (1, 20, 16)
    assert cue.locations.shape == (1, 20, 4, 2, 3, 2)
    torch.testing.assert_close(cue.attention, torch.full((1, 20, 4, 2, 3), 1 / 3))
    patches = cue.locations - patch_centres((4, 5), torch.device("cpu"), torch.float32).view(1, 20, 1, 1, 1, 2)
    patches = patches * torch.tensor([5.0, 4.0])
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])  # heads right, down, left, up
    for point in range(3):
        for level in range(2):
            torch.testing.assert_close(
                patches[0, :, :, level, point], (expected * (point + 1)).expand(20, 4, 2), atol=1e-4, rtol=0
            )


def test_a_constant_map_gives_one_cue_wherever_points_stay_inside():
    vce = VisualCueEnhancement(8, 1, num_heads=2, num_points=1)
    nn.init.zeros_(vce.offsets.bias)
    cue = vce.inspect([torch.ones(1, 12, 8)], (3, 4)).cue
    torch.testing.assert_close(cue, cue[:, :1].expand_as(cue))


@pytest.mark.parametrize("width", [1024, 1152, 384, 768])
def test_widths_of_clip_siglip_and_dinov2_are_accepted(width):
    with torch.device("meta"):
        vce = VisualCueEnhancement(width, 4)
        out = vce([torch.empty(1, 35, width)] * 4, (5, 7))
    assert out.shape == (1, 35, width)


def test_gradients_of_every_parameter_are_exact():
    vce = _stirred(VisualCueEnhancement(4, 2, num_heads=1, num_points=2).double())
    levels = [x.requires_grad_() for x in _levels(1, 6, 4, 2)]
    names = [name for name, _ in vce.named_parameters()]

    def run(*tensors):
        return torch.func.functional_call(vce, dict(zip(names, tensors[2:], strict=True)), (tensors[:2], (2, 3)))

    assert torch.autograd.gradcheck(run, (*levels, *vce.parameters()))


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_stays_close_to_float32(autocast):
    vce = _stirred(VisualCueEnhancement(32, 2, num_heads=4))
    levels = _levels(1, 16, 32, 2, torch.float32)
    exact = vce(levels, (4, 4))
    if autocast:
        with torch.autocast("cpu", torch.bfloat16):
            rough = vce(levels, (4, 4))
    else:
        rough = vce.bfloat16()([x.bfloat16() for x in levels], (4, 4))
        assert rough.dtype == torch.bfloat16
    assert torch.nn.functional.cosine_similarity(rough.float().flatten(), exact.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: VisualCueEnhancement(100, 4), "width 100 must divide by"),
        (lambda: VisualCueEnhancement(64, 4, anchor=4), "anchor must be the index"),
        (lambda: VisualCueEnhancement(64, 4, num_points=0), "at least 1"),
        (lambda: VisualCueEnhancement(64, 4, start="warm"), "start must be"),  # type: ignore[arg-type]
        (lambda: VisualCueEnhancement(64, 2)([torch.zeros(1, 9, 64)] * 3, (3, 3)), "made for 2 levels, was given 3"),
        (lambda: VisualCueEnhancement(64, 2)([torch.zeros(1, 10, 64)] * 2, (3, 3)), "3 x 3 does not hold 10 patches"),
        (lambda: VisualCueEnhancement(64, 2)([torch.zeros(1, 9, 32)] * 2, (3, 3)), "every level must be"),
    ],
)
def test_mistakes_are_reported_in_one_line(make, said):
    with pytest.raises(UserError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)
