"""The algebra of LoRA-MoE and RoDE, and what can be read from their routers."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from components.adapters import DualLoraConfig, LoraMoeConfig, RodeConfig, RouterWeights, adapter_parameters

COMMON = {"lora_alpha": 6, "lora_dropout": 0.0, "target_modules": ["q_proj"]}


def adapted(config) -> Any:
    torch.manual_seed(2)
    model = get_peft_model(nn.ModuleDict({"q_proj": nn.Linear(6, 4)}).double(), config)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def layer_of(model: Any) -> Any:
    return model.base_model.model["q_proj"]


def x(rows: int = 5) -> torch.Tensor:
    return torch.randn(rows, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def set_gates(layer, logits: torch.Tensor) -> None:
    """Make the router's logits for the input of ones (6,) the given ones."""
    with torch.no_grad():
        layer.expert_in["default"].weight[-len(logits) :] = logits[:, None] / 6


def test_one_expert_is_lora_and_merges():
    moe_model = adapted(LoraMoeConfig(r=3, num_experts=1, **COMMON))
    moe, lora = layer_of(moe_model), layer_of(adapted(LoraConfig(r=3, **COMMON)))
    with torch.no_grad():
        lora.lora_A["default"].weight.copy_(moe.expert_in["default"].weight[:3])
        lora.lora_B["default"].weight.copy_(moe.expert_up["default"].weight)
    torch.testing.assert_close(moe(x()), lora(x()), rtol=1e-12, atol=1e-12)
    moe_model.merge_adapter()
    torch.testing.assert_close(moe(x()), lora(x()), rtol=1e-12, atol=1e-12)


def test_top_k_of_all_experts_equals_softmax():
    dense = layer_of(adapted(LoraMoeConfig(r=8, num_experts=4, **COMMON)))
    sparse = layer_of(adapted(LoraMoeConfig(r=8, num_experts=4, routing="top_k", top_k=4, **COMMON)))
    torch.testing.assert_close(sparse(x()), dense(x()), rtol=1e-12, atol=1e-12)


def test_top_2_of_equals_is_the_mean_of_the_two_best():
    layer = layer_of(adapted(LoraMoeConfig(r=6, num_experts=3, routing="top_k", top_k=2, **COMMON)))
    set_gates(layer, torch.tensor([0.1, 0.4, 0.4], dtype=torch.float64))
    ones = torch.ones(1, 6, dtype=torch.float64)
    down, up = layer.expert_in["default"].weight[2:6], layer.expert_up["default"].weight[:, 2:]
    expected = layer.base_layer(ones) + 6 / 6 * ones @ down.T @ up.T / 2
    torch.testing.assert_close(layer(ones), expected)


def test_rode_with_an_all_positive_router_equals_a_weighted_sum():
    layer = layer_of(adapted(RodeConfig(r=6, ranks=[1, 2, 3], **COMMON)))
    gates = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    set_gates(layer, gates)
    ones = torch.ones(1, 6, dtype=torch.float64)
    expected, start = layer.base_layer(ones), 0
    for gate, rank in zip(gates, (1, 2, 3), strict=True):
        rows = slice(start, start + rank)
        down, up = layer.expert_in["default"].weight[rows], layer.expert_up["default"].weight[:, rows]
        expected, start = expected + gate * (6 / 6) * ones @ down.T @ up.T, start + rank
    torch.testing.assert_close(layer(ones), expected)


def test_rode_with_an_all_negative_router_is_the_base():
    layer = layer_of(adapted(RodeConfig(r=6, ranks=[1, 2, 3], **COMMON)))
    set_gates(layer, torch.tensor([-0.5, -2.0, 0.0], dtype=torch.float64))
    ones = torch.ones(1, 6, dtype=torch.float64)
    assert torch.equal(layer(ones), layer.base_layer(ones))


def test_load_and_share_of_switched_off_experts_can_be_read():
    model = adapted(RodeConfig(r=6, ranks=[1, 2, 3], **COMMON))
    layer = layer_of(model)
    set_gates(layer, torch.tensor([1.0, -1.0, 3.0], dtype=torch.float64))
    ones = torch.ones(2, 6, dtype=torch.float64)
    with RouterWeights(model) as routed:
        layer(ones)
        layer(-ones)
    (load,), (off,) = routed.load().values(), routed.share_off().values()
    torch.testing.assert_close(load, torch.tensor([0.5, 0.5, 1.5], dtype=torch.float64))
    assert off.tolist() == [0.5, 0.5, 0.5]
    with RouterWeights(model) as routed:
        pass
    layer(ones)  # the hooks are gone
    assert not routed.layers


def test_top_k_switches_exactly_the_others_off():
    model = adapted(LoraMoeConfig(r=8, num_experts=4, routing="top_k", top_k=3, **COMMON))
    with RouterWeights(model) as routed:
        layer_of(model)(x(50))
    ((weights,),) = routed.layers.values()
    assert ((weights > 0).sum(dim=-1) == 3).all()
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize(("logits", "expected"), [([50.0, 0.0, 0.0, 0.0], 4.0), ([0.0, 0.0, 0.0, 0.0], 1.0)])
def test_balance_loss_is_one_when_even_and_the_number_of_experts_when_one_takes_all(logits, expected):
    model = adapted(LoraMoeConfig(r=8, num_experts=4, **COMMON))
    set_gates(layer_of(model), torch.tensor(logits, dtype=torch.float64))
    with RouterWeights(model) as routed:
        layer_of(model)(torch.ones(3, 6, dtype=torch.float64))
    assert routed.balance_loss().item() == pytest.approx(expected)


@pytest.mark.parametrize("routing", ["softmax", "top_k"])
def test_balance_loss_trains_the_router_of_every_expert(routing):
    model = adapted(LoraMoeConfig(r=8, num_experts=4, routing=routing, **COMMON))
    set_gates(layer_of(model), torch.tensor([4.0, 3.0, -1.0, -2.0], dtype=torch.float64))  # the last two: never chosen
    with RouterWeights(model) as routed:
        layer_of(model)(torch.ones(3, 6, dtype=torch.float64))
    routed.balance_loss().backward()
    gradient = layer_of(model).expert_in["default"].weight.grad
    assert (gradient[8:].abs().sum(dim=1) > 0).all()
    assert gradient[:8].abs().sum() == 0


def test_balance_loss_is_that_of_the_switch_transformer_under_top_k():
    """Fedus et al. 2021, equations 4 to 6: experts * sum of f_i P_i, with P_i from the softmax over all experts."""
    model = adapted(LoraMoeConfig(r=8, num_experts=4, routing="top_k", top_k=2, **COMMON))
    with RouterWeights(model) as routed:
        layer_of(model)(x(50))
    probabilities = (x(50) @ layer_of(model).expert_in["default"].weight[8:].T).softmax(dim=-1)
    shares = [(probabilities.argmax(dim=-1) == i).double().mean() for i in range(4)]
    expected = 4 * sum(f * p for f, p in zip(shares, probabilities.mean(dim=0), strict=True))
    torch.testing.assert_close(routed.balance_loss().double(), expected)


def test_padding_takes_no_part_in_loads_and_balance_loss():
    model = adapted(LoraMoeConfig(r=8, num_experts=4, **COMMON))
    tokens = x(6).reshape(2, 3, 6)
    with RouterWeights(model) as routed:
        routed.mask = torch.tensor([[True, True, False], [True, False, False]])
        layer_of(model)(tokens)
    with RouterWeights(model) as alone:
        layer_of(model)(torch.stack([tokens[0, 0], tokens[0, 1], tokens[1, 0]]))
    torch.testing.assert_close(routed.balance_loss(), alone.balance_loss())
    torch.testing.assert_close(*(next(iter(seen.load().values())) for seen in (routed, alone)))
    with RouterWeights(model) as routed:
        routed.mask = torch.ones(3, 2, dtype=torch.bool)
        with pytest.raises(ValueError, match="does not fit"):
            layer_of(model)(tokens)


def test_a_mask_without_a_token_adds_nothing():
    model = adapted(LoraMoeConfig(r=8, num_experts=4, **COMMON))
    with RouterWeights(model) as routed:
        routed.mask = torch.zeros(5, dtype=torch.bool)
        layer_of(model)(x())
    routed.balance_loss().backward()
    assert routed.balance_loss() == 0
    assert layer_of(model).expert_in["default"].weight.grad.abs().sum() == 0
    for figures in (routed.load(), routed.share_off()):
        assert next(iter(figures.values())).tolist() == [0, 0, 0, 0]


def test_balance_loss_without_experts_is_refused():
    model = adapted(DualLoraConfig(r=2, **COMMON))
    with RouterWeights(model) as routed:
        layer_of(model)(x())
    with pytest.raises(ValueError, match="no router has run"):
        routed.balance_loss()


@pytest.mark.parametrize(
    "config", [LoraMoeConfig(r=8, num_experts=4, **COMMON), RodeConfig(r=6, ranks=[1, 2, 3], **COMMON)]
)
def test_the_router_reads_x_without_dropout(config):
    """As LoRAMoE, MoLA and MixLoRA do."""
    layer = layer_of(adapted(config))
    layer.adapter_dropout["default"] = nn.Dropout(0.999)
    ranks = layer.ranks["default"]
    seen = []
    layer.expert_routers["default"].register_forward_hook(lambda router, given, weights: seen.append(given[0]))
    layer.train()
    layer(x())
    torch.testing.assert_close(seen[0], x() @ layer.expert_in["default"].weight[-len(ranks) :].T)
