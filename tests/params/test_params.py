from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from components.adapters import ACTIVATIONS
from components.errors import UserError
from components.params import DualLora, Params, load_params, validate_params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def changed(tree: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(tree)
    *sections, last = key.split(".")
    inner = result
    for section in sections:
        inner = inner[section]
    inner[last] = value
    return result


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("adapter.rank", 0, "params.yaml: adapter.rank must be at least 1, got 0"),
        ("adapter.rank", "many", "params.yaml: adapter.rank must be a whole number, got 'many'"),
        ("adapter.rnak", 8, "params.yaml: adapter.rnak is not a setting; did you mean adapter.rank?"),
        ("adapters", {}, "params.yaml: adapters is not a setting; did you mean adapter?"),
        ("training.zero_stage", 4, "params.yaml: training.zero_stage must be 0, 1, 2 or 3, got 4"),
        (
            "adapter.kind",
            "dora",
            "params.yaml: adapter.kind must be 'lora', 'dual_lora', 'lora_moe' or 'rode', got 'dora'",
        ),
        ("adapter.targets", [], "params.yaml: adapter.targets: must be a list of names or one regex, got []"),
        (
            "adapter.targets",
            "(q|v",
            "params.yaml: adapter.targets: '(q|v' is no valid regex: missing ), unterminated subpattern at position 0",
        ),
        ("vce.start", "warm", "params.yaml: vce.start must be 'paper' or 'identity', got 'warm'"),
        ("vce.num_heads", 7, "params.yaml: the vision encoder's width 96 must divide by 4 levels * vce.num_heads 7"),
        (
            "vce.levels",
            [-2, -8],
            "params.yaml: vce.levels holds -8, but the vision encoder has hidden states 0 to 6 (or -1 to -7)",
        ),
        ("data", None, "params.yaml: data must be a mapping, got None"),
        (
            "training.deepspeed",
            {"zero_optimization": {"stage": 3}},
            "params.yaml: training: deepspeed must not set zero_optimization.stage; set training.zero_stage",
        ),
        (
            "training.deepspeed",
            {"gradient_clipping": 1.0},
            "params.yaml: training: deepspeed must not set gradient_clipping; set training.grad_clip",
        ),
        (
            "training.deepspeed",
            {"optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}},
            "params.yaml: training: deepspeed must not set optimizer; set learning_rate and weight_decay of a stage",
        ),
        (
            "training.deepspeed",
            {"zero_optimization": {"reduce_bucket_size": "auto"}},
            "params.yaml: training.deepspeed: zero_optimization.reduce_bucket_size must be a value, got 'auto': "
            "Hugging Face's Trainer fills that in, nobody does here",
        ),
        ("vce.anchor", -9, "params.yaml: vce: anchor -9 must be one of the levels [-2, -3, -4, -5]"),
    ],
)
def test_wrong_value_gives_one_line_with_the_key(tree: dict[str, Any], key: str, value: Any, line: str) -> None:
    with pytest.raises(UserError) as mistake:
        validate_params(changed(tree, key, value))
    assert str(mistake.value) == line


@pytest.mark.parametrize(
    ("kind", "rank", "settings", "line"),
    [
        ("lora_moe", 6, {}, "rank 6 must divide by lora_moe.num_experts 4"),
        (
            "lora_moe",
            8,
            {"routing": "top_k", "top_k": 5},
            "lora_moe.top_k 5 must be between 2 and lora_moe.num_experts 4",
        ),
        (
            "lora_moe",
            8,
            {"routing": "top_k", "top_k": 1},
            "lora_moe.top_k 1 must be between 2 and lora_moe.num_experts 4",
        ),
        (
            "dual_lora",
            1,
            {},
            "rank must be at least 2 with dual_lora.normalize, got 1: LayerNorm over one feature is 0",
        ),
        ("rode", 6, {}, r"rank 6 must divide by 8, the sum of rode.rank_shares [1, 1, 2, 4]"),
    ],
)
def test_ranks_and_experts_must_agree(
    tree: dict[str, Any], kind: str, rank: int, settings: dict[str, Any], line: str
) -> None:
    tree["adapter"][kind] |= settings
    with pytest.raises(UserError) as mistake:
        validate_params(changed(changed(tree, "adapter.kind", kind), "adapter.rank", rank))
    assert str(mistake.value) == f"params.yaml: adapter: {line}"


def test_activations_are_those_of_the_adapter() -> None:
    assert get_args(DualLora.model_fields["activation"].annotation) == tuple(ACTIVATIONS)


@pytest.mark.parametrize("section", ["seed", "adapter", "finetune"])
def test_missing_key_is_named(tree: dict[str, Any], section: str) -> None:
    del tree[section]
    with pytest.raises(UserError, match=f"{section} is missing"):
        validate_params(tree)


def test_several_mistakes_are_counted(tree: dict[str, Any]) -> None:
    wrong = changed(changed(tree, "adapter.rank", 0), "seed", -1)
    with pytest.raises(UserError, match=r"\(and 1 more\)"):
        validate_params(wrong)


def test_exponent_without_dot_is_a_number(tree: dict[str, Any]) -> None:
    # PyYAML reads 1e-4 as text, DVC as a number: both must give the same settings
    params = validate_params(changed(tree, "finetune.learning_rate.adapter", "1e-4"))
    assert params.finetune.learning_rate.adapter == 1e-4


def test_unknown_source_of_a_stage_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"pretrain.sources names 'laion', which is not in data.sources"):
        validate_params(changed(tree, "pretrain.sources", ["laion"]))


def test_global_batch_must_divide_by_workers(tree: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"finetune.global_batch must be a multiple of training.workers \(2\), got 7"):
        validate_params(changed(tree, "finetune.global_batch", 7))


def test_settings_cannot_be_changed_after_loading(params: Params) -> None:
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 3  # pyright: ignore


def test_missing_file_and_bad_yaml_give_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing; run the command in the root"):
        load_params(tmp_path / "params.yaml")
    broken = tmp_path / "params.yaml"
    broken.write_text("adapter: {rank: 8\nseed: 1\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 2 is not valid YAML"):
        load_params(broken)
    broken.write_text("tune:\n  space:\n    adapter.rank: 1\n    adapter.rank: 2\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"line 4 is not valid YAML: adapter\.rank stands twice"):
        load_params(broken)


def test_a_misspelt_key_is_reported_before_the_one_that_it_leaves_out(tree: dict[str, Any]) -> None:
    tree["adapter"]["rnak"] = tree["adapter"].pop("rank")
    with pytest.raises(UserError, match=r"adapter\.rnak is not a setting; did you mean adapter\.rank\? \(and 1 more\)"):
        validate_params(tree)


def test_numbers_of_deepspeed_that_yaml_reads_as_text_are_numbers(tree: dict[str, Any]) -> None:
    given = {"zero_optimization": {"reduce_bucket_size": "5e8", "ratio": "0.5", "name": "1 GB", "on": True}}
    read = validate_params(changed(tree, "training.deepspeed", given)).training.deepspeed
    assert read == {"zero_optimization": {"reduce_bucket_size": 500_000_000, "ratio": 0.5, "name": "1 GB", "on": True}}
    assert isinstance(read["zero_optimization"]["reduce_bucket_size"], int)
