"""Dual-LoRA's algebra, its storage, and the mistakes a user can make with any method's config."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from components import adapters
from components.adapters import (
    METHODS,
    DualLoraConfig,
    LoraMoeConfig,
    RodeConfig,
    adapter_parameters,
    check_targets,
    method,
)


def base() -> nn.Module:
    torch.manual_seed(2)
    return Base().double()


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.norm = nn.Linear(6, 4), nn.Linear(6, 4), nn.LayerNorm(4)


def adapted(config: Any, host: nn.Module | None = None) -> Any:
    model = get_peft_model(host or base(), config)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def mistyped(config: Any, **settings: Any) -> Callable[[], Any]:
    """Makes a config with settings of wrong types, which a type checker would report in the calls themselves."""
    return lambda: config(**settings)


def layer_of(model: Any) -> Any:
    return model.base_model.model.q_proj


def x() -> torch.Tensor:
    return torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_without_norm_and_with_a_constant_activation_it_is_lora():
    settings = {"r": 3, "lora_alpha": 5, "lora_dropout": 0.0, "target_modules": ["q_proj"]}
    dual = layer_of(adapted(DualLoraConfig(**settings, use_norm=False, activation="one")))
    lora = layer_of(adapted(LoraConfig(**settings)))
    with torch.no_grad():
        lora.lora_A["default"].weight.copy_(dual.dual_lora_spaces["default"].weight[:3])
        lora.lora_B["default"].weight.copy_(dual.dual_lora_up["default"].weight)
    torch.testing.assert_close(dual(x()), lora(x()), rtol=1e-12, atol=1e-12)


def test_without_norm_and_with_a_constant_activation_it_merges_and_unmerges():
    config = DualLoraConfig(r=3, lora_alpha=5, target_modules=["q_proj"], use_norm=False, activation="one")
    model = adapted(config).eval()
    before, weight = layer_of(model)(x()), layer_of(model).base_layer.weight.clone()
    model.merge_adapter(safe_merge=True)
    assert layer_of(model).merged
    torch.testing.assert_close(layer_of(model)(x()), before)
    assert not torch.allclose(layer_of(model).base_layer.weight, weight)
    model.unmerge_adapter()
    torch.testing.assert_close(layer_of(model).base_layer.weight, weight)


def test_a_refused_merge_leaves_every_layer_as_it_is():
    """The layer of q_proj could merge both adapters; that of k_proj, asked after it, cannot merge the second."""
    alike = {"r": 3, "use_norm": False, "activation": "one"}
    model = adapted(DualLoraConfig(**alike, target_modules=["q_proj", "k_proj"]))
    model.add_adapter("second", DualLoraConfig(r=3, target_modules=["k_proj"]))
    model.base_model.set_adapter(["default", "second"])
    layers = [model.base_model.model.q_proj, model.base_model.model.k_proj]
    before = [layer.base_layer.weight.clone() for layer in layers]
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(ValueError, match="'second' cannot be merged"):
            merge()
        assert all(torch.equal(layer.base_layer.weight, w) for layer, w in zip(layers, before, strict=True))
        assert not any(layer.merged for layer in layers)
    model.merge_adapter(adapter_names=["default"])
    assert [layer.merged_adapters for layer in layers] == [["default"], ["default"]]


def test_adapters_chosen_by_row_are_refused():
    model = get_peft_model(nn.Sequential(nn.Linear(3, 3)), DualLoraConfig(r=2, target_modules=["0"]))
    with pytest.raises(ValueError, match="adapter_names: all rows of a batch use the active adapters"):
        model(torch.ones(1, 3), adapter_names=["__base__"])
    model(torch.ones(1, 3), adapter_names=None)


def test_mixed_models_are_refused_in_one_line():
    with pytest.raises(ValueError, match=r"DUAL_LORA adapters are loaded by peft.PeftModel.from_pretrained") as caught:
        get_peft_model(base(), DualLoraConfig(r=2, target_modules=["q_proj"]), mixed=True)
    assert "\n" not in str(caught.value)


def test_gpt2_s_transposed_linear_layers_are_adapted_and_merged():
    linear, conv = nn.Linear(6, 4).double(), Conv1D(4, 6).double()
    with torch.no_grad():
        conv.weight.copy_(linear.weight.T)
        conv.bias.copy_(linear.bias)
    config = {"r": 3, "target_modules": ["q_proj"], "use_norm": False, "activation": "one"}
    one, other = (adapted(DualLoraConfig(**config), nn.ModuleDict({"q_proj": w})).eval() for w in (linear, conv))
    expected = one.base_model.model["q_proj"](x())
    torch.testing.assert_close(other.base_model.model["q_proj"](x()), expected)
    other.merge_adapter()
    torch.testing.assert_close(conv(x()), expected)
    other.unmerge_adapter()
    torch.testing.assert_close(conv.weight, linear.weight.T)


def test_the_task_space_alone_decides_which_skills_answer():
    """Where T x is not positive, the skill is silent whatever its size (paper 3.4.2)."""
    layer = layer_of(adapted(DualLoraConfig(r=3, lora_dropout=0.0, target_modules=["q_proj"])))
    with torch.no_grad():
        layer.dual_lora_spaces["default"].weight[3:] = 0
    assert torch.equal(layer(x()), layer.base_layer(x()))


def test_the_norm_makes_the_skill_features_independent_of_the_size_of_s():
    layer = layer_of(adapted(DualLoraConfig(r=4, target_modules=["q_proj"])).eval())
    before = layer(x())
    with torch.no_grad():
        layer.dual_lora_spaces["default"].weight[:4] *= 1000
    torch.testing.assert_close(layer(x()), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("targets", [["q_proj"], r"q_.*", "all-linear"])
def test_targets_are_a_list_a_regex_or_all_linear_layers(targets):
    parts = adapter_parameters(adapted(DualLoraConfig(r=2, target_modules=targets)))
    found = {name.split(".")[2] for name in parts}
    assert found == ({"q_proj", "k_proj"} if targets == "all-linear" else {"q_proj"})


def test_rank_and_alpha_patterns_hold_for_the_layers_they_name():
    config = DualLoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj"], rank_pattern={"k_proj": 2}, alpha_pattern={"k_proj": 6}
    )
    model: Any = get_peft_model(base(), config).base_model.model
    assert model.q_proj.dual_lora_spaces["default"].weight.shape == (8, 6)
    assert model.k_proj.dual_lora_spaces["default"].weight.shape == (4, 6)
    assert (model.q_proj.scaling["default"], model.k_proj.scaling["default"]) == (2, 3)


def test_excluded_and_saved_modules_are_peft_s(tmp_path):
    config = DualLoraConfig(r=2, target_modules="all-linear", exclude_modules=["k_proj"], modules_to_save=["norm"])
    model = adapted(config)
    with torch.no_grad():
        model.base_model.model.norm.modules_to_save["default"].weight.fill_(7)
    model.save_pretrained(tmp_path)
    again: Any = PeftModel.from_pretrained(base(), str(tmp_path)).base_model.model
    assert isinstance(again.k_proj, nn.Linear)
    assert torch.equal(again.norm.weight, torch.full((4,), 7.0, dtype=torch.float64))


def test_one_tensor_in_the_model_is_skill_and_task_in_the_file():
    model = adapted(DualLoraConfig(r=3, target_modules=["q_proj"]))
    saved = get_peft_model_state_dict(model)
    whole = layer_of(model).dual_lora_spaces["default"].weight
    assert torch.equal(saved["base_model.model.q_proj.dual_lora_skill.weight"], whole[:3])
    assert torch.equal(saved["base_model.model.q_proj.dual_lora_task.weight"], whole[3:])
    assert not any("spaces" in name for name in saved)


@pytest.mark.parametrize("lost", ["skill", "task", "norm.weight", "up"])
def test_a_file_without_one_of_its_tensors_is_refused(tmp_path, lost):
    adapted(DualLoraConfig(r=3, target_modules=["q_proj"])).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({n: t for n, t in load_file(file).items() if f"dual_lora_{lost}" not in n}, file)
    with pytest.raises(ValueError, match=f"dual_lora_{lost.replace('norm.', 'spaces.default.norm_')}"):
        PeftModel.from_pretrained(base(), str(tmp_path))


def test_a_file_with_norms_under_settings_without_is_refused(tmp_path):
    adapted(DualLoraConfig(r=3, target_modules=["q_proj"])).save_pretrained(tmp_path)
    settings = tmp_path / "adapter_config.json"
    settings.write_text(settings.read_text().replace('"use_norm": true', '"use_norm": false'))
    with pytest.raises(ValueError, match=r"holds, without a place .*norm_bias \(and 1 more\)"):
        PeftModel.from_pretrained(base(), str(tmp_path))


@pytest.mark.parametrize(
    ("config", "first", "second"),
    [
        (DualLoraConfig(r=2, target_modules=["q_proj"]), "dual_lora_skill", "dual_lora_task"),
        (LoraMoeConfig(r=2, num_experts=2, target_modules=["q_proj"]), "expert_down", "expert_gate"),
    ],
)
def test_halves_that_fit_together_only_by_their_sum_are_refused(tmp_path, config, first, second):
    adapted(config).save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors, path = load_file(file), "base_model.model.q_proj."
    whole = torch.cat([tensors[f"{path}{first}.weight"], tensors[f"{path}{second}.weight"]])
    tensors |= {f"{path}{first}.weight": whole[:1].clone(), f"{path}{second}.weight": whole[1:].clone()}
    save_file(tensors, file)
    with pytest.raises(ValueError, match=f"{first}.weight has 1 rows beside 3 of {second}"):
        PeftModel.from_pretrained(base(), str(tmp_path))


def test_partitioned_weights_are_not_saved_in_silence():
    model = adapted(DualLoraConfig(r=3, target_modules=["q_proj"]))
    shards = {n: t.flatten()[:0] for n, t in model.state_dict().items()}
    with pytest.raises(ValueError, match="gather them before saving"):
        get_peft_model_state_dict(model, state_dict=shards)


def test_parameters_are_found_by_asking_layers_not_by_their_names():
    class Misleading(nn.Module):
        def __init__(self):
            super().__init__()
            self.dual_lora_up = nn.Linear(3, 3)
            self.q_proj = nn.Linear(3, 3)

    model = get_peft_model(Misleading(), DualLoraConfig(r=2, target_modules=["q_proj"]))
    found = adapter_parameters(model)
    assert found
    assert all(".q_proj." in name for name in found)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == set(found)
    layer = layer_of(model)
    assert dict(layer.adapter_parameters("default")).keys() == {n.split("q_proj.")[1] for n in found}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: method("dual-lora"), "unknown adapter method 'dual-lora'; known: lora, dual_lora, lora_moe, rode"),
        (lambda: DualLoraConfig(r=0), "DualLoraConfig: r must be a whole number of at least 1, got 0"),
        (lambda: DualLoraConfig(rank_pattern={"q": 0}), "rank_pattern 'q' must be a whole number"),
        (lambda: DualLoraConfig(r=True), "r must be a whole number of at least 1, got True"),
        (lambda: DualLoraConfig(r=1), "use_norm needs a rank of at least 2, got 1: LayerNorm over one"),
        (lambda: DualLoraConfig(rank_pattern={"q": 1}), "use_norm needs a rank of at least 2, got 1"),
        (mistyped(DualLoraConfig, rank_pattern=None), "rank_pattern must map names of layers to numbers, got None"),
        (mistyped(DualLoraConfig, alpha_pattern={3: 4}), "alpha_pattern must map names of layers"),
        (mistyped(DualLoraConfig, alpha_pattern={"q": "4"}), "alpha_pattern 'q' must be a number above 0, got '4'"),
        (mistyped(DualLoraConfig, lora_alpha=None), "lora_alpha must be a number above 0, got None"),
        (mistyped(RodeConfig, lora_alpha="8"), "lora_alpha must be a number above 0, got '8'"),
        (lambda: RodeConfig(lora_alpha=0), "lora_alpha must be a number above 0, got 0"),
        (lambda: DualLoraConfig(lora_dropout=1.0), "lora_dropout must be in"),
        (mistyped(DualLoraConfig, lora_dropout="a"), "lora_dropout must be in .*, got 'a'"),
        (mistyped(DualLoraConfig, activation=["relu"]), "activation must be one of relu, none"),
        (lambda: DualLoraConfig(activation="rely"), "activation must be one of relu, none"),
        (lambda: DualLoraConfig(form="printed"), "form must be one of paper, released; got 'printed'"),
        (lambda: LoraMoeConfig(r=6), "rank 6 must divide by num_experts = 4"),
        (lambda: LoraMoeConfig(num_experts=0), "num_experts must be a whole number of at least 1, got 0"),
        (mistyped(LoraMoeConfig, num_experts=2.0), "num_experts must be a whole number of at least 1, got 2.0"),
        (lambda: LoraMoeConfig(r=6, num_experts=2, ranks=[3, 4]), "ranks must sum to r = 6"),
        (lambda: LoraMoeConfig(r=6, num_experts=3, ranks=[3, 3]), "ranks must be num_experts = 3 numbers"),
        (lambda: LoraMoeConfig(routing="top_k", top_k=5), "top_k must be between 2 and num_experts = 4, got 5"),
        (lambda: LoraMoeConfig(routing="top_k", top_k=1), "top_k must be between 2 and num_experts = 4, got 1"),
        (mistyped(LoraMoeConfig, routing="top_k", top_k=2.5), "top_k must be a whole number of at least 1, got 2.5"),
        (lambda: LoraMoeConfig(routing="dense"), "routing must be softmax or top_k"),
        (lambda: RodeConfig(r=64, ranks=[8, 8]), "sum to r = 64"),
        (lambda: RodeConfig(r=4, ranks=[]), "sum to r = 4"),
        (mistyped(RodeConfig, r=4, ranks="4"), "ranks must be a list of whole numbers, got '4'"),
        (mistyped(RodeConfig, r=4, ranks=[1.5, 2.5]), "each of ranks must be a whole number of at least 1, got 1.5"),
        (lambda: RodeConfig(rank_pattern={"q": 8}), "rank_pattern cannot be used: ranks holds for every layer"),
        (lambda: DualLoraConfig(target_modules="q_(proj"), r"target_modules: 'q_\(proj' is no valid regex"),
        (lambda: check_targets(base(), LoraConfig(target_modules="q_(p")), r"'q_\(p' is no valid regex"),
        (lambda: DualLoraConfig(rank_pattern={"(": 2}), r"'\(' is no valid regex"),
        (
            lambda: adapted(DualLoraConfig(target_modules=["q_proj"], rank_pattern={"k_proj": 2})),
            "rank_pattern: 'k_proj' matches no layer that target_modules names",
        ),
        (
            lambda: adapted(DualLoraConfig(target_modules="all-linear", alpha_pattern={"proj": 2})),
            "alpha_pattern: 'proj' matches no layer",
        ),
        (lambda: adapted(DualLoraConfig(target_modules=["q_pro"])), "'q_pro' matches no module .*: q_proj"),
        (lambda: adapted(RodeConfig(target_modules="x_.*")), "'x_.*' matches no module"),
        (lambda: adapted(RodeConfig(target_modules=["q_proj", "z"])), "'z' matches no module"),
        (lambda: check_targets(base(), LoraConfig(target_modules=["kproj"])), "'kproj' matches no module .*: k_proj"),
        (lambda: adapted(DualLoraConfig(target_modules=["norm"])), "norm, a LayerNorm; only Linear layers"),
    ],
)
def test_mistakes_are_reported_in_one_line(make, said):
    with pytest.raises(ValueError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_the_package_needs_torch_and_peft_alone():
    imported = set()
    for file in Path(adapters.__file__).parent.glob("*.py"):
        if file.name == "kernels.py":  # imported where a CUDA build of torch, which brings Triton, has a device
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        tree.body = [
            one for one in tree.body if not (isinstance(one, ast.If) and "TYPE_CHECKING" in ast.unparse(one.test))
        ]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"torch", "peft"}


@pytest.mark.parametrize("name", [name for name in METHODS if name != "lora"])
def test_defaults_are_the_papers_downstream_regime(name):
    """Paper 4.1: rank 64 and scaling 128 for every method; dropout 0.05."""
    config = METHODS[name]()
    assert (config.r, config.lora_alpha, config.lora_dropout) == (64, 128, 0.05)  # type: ignore[attr-defined]


def test_released_dropout_reaches_the_skill_space_alone():
    """Their code: S reads dropout(x), T reads x; the print has dropout on x for both."""
    settings = {"r": 3, "lora_dropout": 0.5, "target_modules": ["q_proj"]}
    for form in ("paper", "released"):
        layer = layer_of(adapted(DualLoraConfig(**settings, form=form)).train())
        spaces, up = layer.dual_lora_spaces["default"], layer.dual_lora_up["default"]
        torch.manual_seed(3)
        made = layer(x())
        torch.manual_seed(3)
        dropped = nn.functional.dropout(x(), 0.5)
        skill, task = spaces.weight.chunk(2)
        normed = nn.functional.layer_norm(dropped @ skill.T, (3,), spaces.norm_weight, spaces.norm_bias)
        gate = torch.relu((dropped if form == "paper" else x()) @ task.T)
        expected = layer.base_layer(x()) + layer.scaling["default"] * (normed * gate) @ up.weight.T
        torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-12)


def test_without_dropout_both_forms_are_one():
    models = [
        adapted(DualLoraConfig(r=3, lora_dropout=0.5, target_modules=["q_proj"], form=form)).eval()
        for form in ("paper", "released")
    ]
    assert torch.equal(layer_of(models[0])(x()), layer_of(models[1])(x()))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_nothing_is_merged_into_a_quantized_base(dtype):
    """Codes of 8 or 4 bits: adding the change to them gives the bare base (8 bits) or an error of shapes (4 bits)."""
    config = LoraMoeConfig(r=4, num_experts=1, target_modules=["q_proj"])
    model = adapted(config)
    linear = layer_of(model).base_layer
    linear.weight = nn.Parameter(torch.ones(4, 6).to(dtype), requires_grad=False)
    for merge in (model.merge_adapter, model.merge_and_unload):
        with pytest.raises(
            ValueError, match=r"cannot be merged .*: Linear is quantized; load the base in 16"
        ) as caught:
            merge()
        assert "\n" not in str(caught.value)
    assert layer_of(model).base_layer.weight.dtype == dtype


def test_peft_s_status_names_the_method():
    from peft import get_model_status

    assert get_model_status(adapted(DualLoraConfig(r=2, target_modules=["q_proj"]))).peft_types == {
        "default": "DUAL_LORA"
    }


def test_hotswapping_is_refused_in_one_line(tmp_path):
    from peft.utils.hotswap import hotswap_adapter

    model = adapted(DualLoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"DUAL_LORA adapters are loaded by .*hotswap_adapter.* cannot carry them"):
        hotswap_adapter(model, str(tmp_path), adapter_name="default", torch_device="cpu")


@pytest.mark.parametrize("config", [DualLoraConfig(r=2), RodeConfig(r=4, ranks=[2, 2])])
def test_the_saved_readme_says_what_to_import(tmp_path, config):
    config.target_modules = {"q_proj"}
    for _ in range(2):  # once, however often it is saved
        adapted(config).save_pretrained(tmp_path)
    said = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert said.count("    import local_enhanced_adapters\n") == 1
    assert f"PEFT knows the method {'DUAL_LORA' if config.r == 2 else 'RODE'} once" in said


def test_a_process_that_imports_what_the_readme_says_can_load_the_folder(tmp_path):
    model = adapted(DualLoraConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path)
    script = (
        "import sys, components.adapters; from peft import PeftConfig; "
        "print(type(PeftConfig.from_pretrained(sys.argv[1])).__name__)"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == "DualLoraConfig", ran.stderr
