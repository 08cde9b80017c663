"""What every method of the table must hold to. A new method joins by its rows in CASES and TWINS."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from components.adapters import METHODS, adapter_parameters, method

TARGETS = ["q_proj", "v_proj"]
COMMON: dict[str, Any] = {"lora_alpha": 12, "lora_dropout": 0.0, "target_modules": TARGETS}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("lora", {"r": 4}),
    ("dual_lora", {"r": 4}),
    ("dual_lora", {"r": 4, "use_norm": False}),
    ("dual_lora", {"r": 4, "form": "released"}),
    ("dual_lora", {"r": 4, "activation": "none"}),
    ("dual_lora", {"r": 4, "activation": "silu", "use_norm": False}),
    ("lora_moe", {"r": 6, "num_experts": 3}),
    ("lora_moe", {"r": 6, "num_experts": 3, "routing": "top_k", "top_k": 2}),
    ("lora_moe", {"r": 6, "num_experts": 2, "ranks": [4, 2]}),
    ("rode", {"r": 6, "ranks": [1, 2, 3]}),
]
every_case = pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))
)


class Block(nn.Module):
    """Enough of a transformer block for targets, a bias and a layer that must stay as it is."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, 5)
        self.v_proj = nn.Linear(width, 5, bias=False)
        self.out = nn.Linear(5, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(torch.tanh(self.q_proj(x)) * self.v_proj(x))


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def base(dtype: torch.dtype = torch.float64) -> Base:
    torch.manual_seed(11)
    return Base().to(dtype)


def inputs(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 8, dtype=dtype, generator=torch.Generator().manual_seed(4))


def layers_of(model: PeftModel) -> Any:
    """The base's layers, by number."""
    base: Any = model.base_model.model
    return base.layers


def stir(model: nn.Module, adapter: str | None = None) -> None:
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in adapter_parameters(model, adapter).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def adapted(name: str, settings: dict[str, Any], **more: Any) -> PeftModel:
    return get_peft_model(base(), method(name)(**{**COMMON, **settings, **more}))  # type: ignore[arg-type]


def _lora(x: Tensor, part: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    return part["lora_B.weight"] @ (part["lora_A.weight"] @ x)


def _dual_lora(x: Tensor, part: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    skill = part["dual_lora_skill.weight"] @ x
    if settings.get("use_norm", True):
        skill = (skill - skill.mean()) / (skill.var(correction=0) + 1e-5).sqrt()
        skill = skill * part["dual_lora_norm.weight"] + part["dual_lora_norm.bias"]
    task = part["dual_lora_task.weight"] @ x
    task = {"relu": task.clamp(min=0), "none": task, "silu": task / (1 + (-task).exp())}[
        settings.get("activation", "relu")
    ]
    return part["dual_lora_up.weight"] @ (skill * task)


def _experts(x: Tensor, part: dict[str, Tensor], ranks: list[int], weigh: Callable[[Tensor], Tensor]) -> Tensor:
    weights, total, start = weigh(part["expert_gate.weight"] @ x), torch.zeros(5, dtype=x.dtype), 0
    for expert, rank in enumerate(ranks):
        rows = slice(start, start + rank)
        down, up = part["expert_down.weight"][rows], part["expert_up.weight"][:, rows]
        total, start = total + weights[expert] * (up @ (down @ x)), start + rank
    return total


def _lora_moe(x: Tensor, part: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    def weigh(logits: Tensor) -> Tensor:
        weights = logits.exp() / logits.exp().sum()
        if settings.get("routing") == "top_k":
            keep = sorted(range(len(weights)), key=lambda i: -weights[i].item())[: settings["top_k"]]
            weights = torch.stack([w if i in keep else w * 0 for i, w in enumerate(weights)])
        return weights / weights.sum()

    num = settings["num_experts"]
    return _experts(x, part, settings.get("ranks", [settings["r"] // num] * num), weigh)


def _rode(x: Tensor, part: dict[str, Tensor], settings: dict[str, Any]) -> Tensor:
    return _experts(x, part, settings["ranks"], lambda logits: logits.clamp(min=0))


TWINS = {"lora": _lora, "dual_lora": _dual_lora, "lora_moe": _lora_moe, "rode": _rode}
NAMES = {
    "lora": {"lora_A.weight", "lora_B.weight"},
    "dual_lora": {
        "dual_lora_skill.weight",
        "dual_lora_task.weight",
        "dual_lora_norm.weight",
        "dual_lora_norm.bias",
        "dual_lora_up.weight",
    },
    "lora_moe": {"expert_down.weight", "expert_gate.weight", "expert_up.weight"},
    "rode": {"expert_down.weight", "expert_gate.weight", "expert_up.weight"},
}


def test_the_table_holds_these_methods_and_every_one_has_a_case_and_a_twin():
    assert list(METHODS) == ["lora", "dual_lora", "lora_moe", "rode"]
    assert {name for name, _ in CASES} == set(METHODS) == set(TWINS) == set(NAMES)


@every_case
def test_a_fresh_adapter_changes_nothing(name, settings):
    assert torch.equal(adapted(name, settings)(inputs()), base()(inputs()))


@every_case
def test_formula_equals_a_naive_twin(name, settings):
    model = adapted(name, settings)
    stir(model)
    layer = layers_of(model)[1].q_proj
    prefix = "base_model.model.layers.1.q_proj."
    part = {k.removeprefix(prefix): v for k, v in get_peft_model_state_dict(model).items() if k.startswith(prefix)}
    for x in inputs().flatten(0, 1):
        expected = layer.base_layer(x) + (12 / settings["r"]) * TWINS[name](x, part, settings)
        torch.testing.assert_close(layer(x[None])[0], expected, rtol=1e-10, atol=1e-10)


@every_case
def test_gradients_reach_the_adapter_and_nothing_else(name, settings):
    model = adapted(name, settings)
    stir(model)
    model(inputs()).square().sum().backward()
    with_gradient = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert with_gradient == set(adapter_parameters(model))
    assert {n for n, p in model.named_parameters() if p.requires_grad} == with_gradient


@every_case
def test_gradients_are_exact(name, settings):
    layer = layers_of(adapted(name, settings))[0].v_proj
    stir(layer)
    names = [n for n, p in layer.named_parameters() if p.requires_grad]

    def run(x, *parts):
        return torch.func.functional_call(layer, dict(zip(names, parts, strict=True)), (x,))

    x = inputs()[0].requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *(dict(layer.named_parameters())[n] for n in names)))


@every_case
def test_saved_and_loaded_adapters_are_equal_to_the_bit(name, settings, tmp_path):
    model = adapted(name, settings).eval()
    stir(model)
    model.save_pretrained(tmp_path)
    for meta_first in (False, True):
        again = PeftModel.from_pretrained(base(), str(tmp_path), low_cpu_mem_usage=meta_first).eval()
        assert torch.equal(again(inputs()), model(inputs()))
        theirs = adapter_parameters(again)
        assert all(torch.equal(p, theirs[n]) for n, p in adapter_parameters(model).items())


@every_case
def test_saved_names_are_the_papers_terms(name, settings, tmp_path):
    adapted(name, settings).save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    names = {n for n in NAMES[name] if settings.get("use_norm", True) or "norm" not in n}
    paths = [f"base_model.model.layers.{i}.{target}." for i in range(2) for target in TARGETS]
    assert set(saved) == {path + n for path in paths for n in names}


@every_case
def test_two_adapters_do_not_touch_each_other(name, settings):
    model = adapted(name, settings).eval()
    stir(model)
    first = model(inputs())
    model.add_adapter("second", method(name)(**{**COMMON, **settings}))  # type: ignore[arg-type]
    assert torch.equal(model(inputs()), first)
    model.set_adapter("second")
    assert torch.equal(model(inputs()), base()(inputs()))
    before = {n: p.clone() for n, p in adapter_parameters(model, "default").items()}
    model(inputs()).sum().backward()
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(adapter_parameters(model, "second"))
    stir(model, "second")
    assert all(torch.equal(p, before[n]) for n, p in adapter_parameters(model, "default").items())
    model.set_adapter("default")
    assert torch.equal(model(inputs()), first)
    model.delete_adapter("second")
    assert torch.equal(model(inputs()), first)
    assert set(adapter_parameters(model)) == set(before)


@every_case
def test_active_adapters_add_up(name, settings):
    layer = adapted(name, settings)
    layer.add_adapter("second", method(name)(**{**COMMON, **settings}))  # type: ignore[arg-type]
    stir(layer)
    one = layers_of(layer)[0].q_proj
    parts = []
    for active in (["default"], ["second"], ["default", "second"]):
        one.set_adapter(active)
        parts.append(one(inputs()) - one.base_layer(inputs()))
    torch.testing.assert_close(parts[2], parts[0] + parts[1])


@every_case
def test_disabled_and_unloaded_models_are_the_base(name, settings):
    model = adapted(name, settings).eval()
    stir(model)
    assert not torch.equal(model(inputs()), base()(inputs()))
    with model.disable_adapter():
        assert torch.equal(model(inputs()), base()(inputs()))
    assert torch.equal(copy.deepcopy(model).unload()(inputs()), base()(inputs()))


@every_case
def test_merging_is_exact_or_refused_before_anything_changes(name, settings):
    model = adapted(name, settings).eval()
    stir(model)
    before = model(inputs())
    if name == "lora":
        torch.testing.assert_close(model.merge_and_unload()(inputs()), before)
        return
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ValueError, match="cannot be merged") as caught:
            merge()
        assert "\n" not in str(caught.value)
        assert torch.equal(model(inputs()), before)


@every_case
def test_dropout_touches_training_only(name, settings):
    model = adapted(name, settings, lora_dropout=0.5)
    stir(model)
    model.train()
    assert not torch.equal(model(inputs()), model(inputs()))
    model.eval()
    assert torch.equal(model(inputs()), model(inputs()))


@every_case
def test_a_meta_model_gets_meta_adapters(name, settings):
    with torch.device("meta"):
        model = get_peft_model(Base(), method(name)(**{**COMMON, **settings}))  # type: ignore[arg-type]
        assert {p.device.type for p in adapter_parameters(model).values()} == {"meta"}
        assert model(torch.empty(2, 3, 8)).shape == (2, 3, 8)


@every_case
def test_autocast_stays_close_and_keeps_the_dtype(name, settings):
    torch.manual_seed(0)
    model = get_peft_model(base(torch.float32), method(name)(**{**COMMON, **settings}))  # type: ignore[arg-type]
    stir(model)
    layer = layers_of(model)[0].q_proj
    exact = layer(inputs(torch.float32))
    with torch.autocast("cpu", torch.bfloat16):
        rough = layer(inputs(torch.float32))
    assert functional.cosine_similarity(rough.flatten().float(), exact.flatten(), dim=0) > 0.98
    half = get_peft_model(base(torch.bfloat16), method(name)(**{**COMMON, **settings}))  # type: ignore[arg-type]
    assert {p.dtype for p in adapter_parameters(half).values()} == {torch.float32}
    assert half(inputs(torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "rank", "mebibytes"), [
    *(("lora", rank, size) for rank, size in ((32, 32), (64, 64), (128, 128))),
    *(("dual_lora", rank, size) for rank, size in ((32, 48), (64, 96), (128, 192))),
])  # fmt: skip
def test_bytes_equal_the_published_ones(name, rank, mebibytes):
    """Paper appendix, Table 2: q and v of 32 blocks of width 4096, bf16. The norms are left out there."""
    with torch.device("meta"):
        blocks = nn.Module()
        blocks.layers = nn.ModuleList(
            nn.ModuleDict({n: nn.Linear(4096, 4096, bias=False) for n in TARGETS}) for _ in range(32)
        )
        get_peft_model(blocks, method(name)(r=rank, target_modules=TARGETS))  # type: ignore[arg-type]
    sizes = {n: p.numel() * 2 for n, p in adapter_parameters(blocks).items()}
    norms = sum(size for n, size in sizes.items() if ".norm_" in n)
    assert sum(sizes.values()) - norms == mebibytes * 2**20
    assert norms == (64 * 2 * rank * 2 if name == "dual_lora" else 0)
