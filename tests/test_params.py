from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import UserError
from components.params import Params, load_params, validate_params

ROOT = Path(__file__).parent.parent


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
        ("adapter.targets", [], "params.yaml: adapter.targets must not be empty, got []"),
        ("data", None, "params.yaml: data must be a mapping, got None"),
        ("vce.anchor", -9, "params.yaml: vce: anchor -9 must be one of the levels [-2, -3, -4, -5]"),
    ],
)
def test_wrong_value_gives_one_line_with_the_key(tree: dict[str, Any], key: str, value: Any, line: str) -> None:
    with pytest.raises(UserError) as mistake:
        validate_params(changed(tree, key, value))
    assert str(mistake.value) == line


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
