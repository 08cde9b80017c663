"""Heat maps and skill-space entropies against hand-made spaces whose answers are known."""

import math
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn

from components.adapters import DualLoraConfig
from components.evaluation.insight.measures import SkillSpaces, cue_heat_map, energy_shares, entropy


def layer_with(skill_rows, task_rows, **settings) -> nn.Module:
    """A model of one adapted layer whose S and T are given; x has 4 features."""
    model = get_peft_model(
        nn.ModuleDict({"q_proj": nn.Linear(4, 3)}),
        DualLoraConfig(r=len(skill_rows), lora_dropout=0.0, target_modules=["q_proj"], **settings),
    )
    host: Any = model.base_model.model
    layer = host["q_proj"]
    with torch.no_grad():
        layer.dual_lora_spaces["default"].weight.copy_(torch.tensor([*skill_rows, *task_rows], dtype=torch.float32))
    return layer


def watch(layer: nn.Module, x: torch.Tensor, mask: torch.Tensor | None = None):
    with SkillSpaces(layer) as spaces:
        spaces.mask = mask
        layer(x)
    (seen,) = spaces.layers().values()
    return seen


UNITS = torch.eye(4).tolist()


def test_heat_map_is_the_norm_of_the_cue_row_by_row():
    cue = torch.zeros(2, 6, 5)
    cue[1, 4] = torch.tensor([3.0, 4.0, 0, 0, 0])
    heat = cue_heat_map(cue, (2, 3))
    assert heat.shape == (2, 2, 3)
    assert heat[1, 1, 1] == 5
    assert heat.sum() == 5


@pytest.mark.parametrize("size", [1.0, 1e-25, 1e25])
def test_entropy_is_zero_for_one_unit_and_log_r_for_equal_units_at_any_scale(size):
    features = torch.tensor([[0.0, 1, 0, 0], [1, -1, 1, -1], [1, 1, 0, 0], [0, 0, 0, 0]]) * size
    shares = energy_shares(features)
    torch.testing.assert_close(shares.sum(dim=-1), torch.tensor([1.0, 1, 1, 0]))
    torch.testing.assert_close(entropy(shares), torch.tensor([0.0, math.log(4), math.log(2), 0]))


def test_a_task_space_that_silences_half_of_equal_skills_lowers_entropy_to_log_of_the_rest():
    task = [[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 0], [0, 0, 0, -1]]
    seen = watch(layer_with(UNITS, task, use_norm=False), torch.ones(1, 3, 4))
    assert seen.tokens == 3
    assert seen.skill_entropy == pytest.approx(math.log(4)) == seen.max_entropy
    assert seen.rectified_entropy == pytest.approx(math.log(2))
    assert seen.rectified_is_lower
    assert seen.zero_task_share == 0.5
    assert seen.silent_share == 0
    assert seen.skill_shares == pytest.approx([0.25] * 4)
    assert seen.rectified_shares == pytest.approx([0.5, 0.5, 0, 0])


def test_silent_tokens_are_counted_and_left_out():
    layer = layer_with(UNITS, UNITS, use_norm=False)
    x = torch.stack([torch.ones(4), -torch.ones(4), torch.tensor([1.0, -1, -1, -1])])[None]
    seen = watch(layer, x)
    assert seen.silent_share == pytest.approx(1 / 3)
    assert seen.rectified_entropy == pytest.approx((math.log(4) + 0) / 2)
    assert seen.zero_task_share == pytest.approx((0 + 1 + 0.75) / 3)
    only_silent = watch(layer, -torch.ones(1, 2, 4))
    assert math.isnan(only_silent.rectified_entropy)
    assert not only_silent.rectified_is_lower


def test_the_mask_leaves_padding_out():
    layer = layer_with(UNITS, UNITS, use_norm=False)
    x = torch.stack([torch.ones(2, 4), torch.tensor([[1.0, 0, 0, 0], [9, 9, 9, 9]])])
    seen = watch(layer, x, torch.tensor([[False, False], [True, False]]))
    assert seen.tokens == 1
    assert seen.skill_entropy == 0
    with pytest.raises(ValueError, match="does not fit"):
        watch(layer, x, torch.ones(1, 2, dtype=torch.bool))


def test_several_passes_add_up_to_one():
    torch.manual_seed(0)
    layer = layer_with(torch.randn(4, 4).tolist(), torch.randn(4, 4).tolist())
    x = torch.randn(6, 5, 4)
    with SkillSpaces(layer) as spaces:
        for part in x.split(2):
            layer(part)
    layer(x)  # after the context: not watched
    (piecewise,) = spaces.layers().values()
    whole = watch(layer, x)
    assert piecewise.tokens == whole.tokens == 30
    assert piecewise.rectified_entropy == pytest.approx(whole.rectified_entropy)
    assert piecewise.rectified_shares == pytest.approx(whole.rectified_shares)


def test_the_norm_is_part_of_what_is_measured():
    """LayerNorm of equal skills is all zeros: no energy, entropy 0; without the norm it is ln 4."""
    assert watch(layer_with(UNITS, UNITS), torch.ones(1, 1, 4)).skill_entropy == pytest.approx(0, abs=1e-6)
    assert watch(layer_with(UNITS, UNITS, use_norm=False), torch.ones(1, 1, 4)).skill_entropy > 1.3
