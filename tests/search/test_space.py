"""The space of a search: what it takes, what it refuses in one line, and what it makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from components.errors import UserError
from components.params import Params
from components.params.trees import flatten, nested
from components.search.space import apply, decode, domains, encode, present, read_space


def with_space(params: Params, space: dict[str, Any], **more: Any) -> Params:
    return params.model_copy(update={"tune": params.tune.model_copy(update={"space": space, **more})})


def test_committed_space_is_valid_and_holds_the_present_settings(params: Params) -> None:
    space = read_space(params)
    point = present(params, space)
    assert point is not None
    assert apply(params, point) == params


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ({}, "tune.space is empty"),
        (
            {"adapter.rnk": {"choice": [1]}},
            "adapter.rnk is not a setting that a trial can change; near names: adapter",
        ),
        ({"rank": {"choice": [1]}}, "near names: adapter.rank"),
        ({"adapter.dual_lora": {"choice": [1]}}, "is a section; search its settings: adapter.dual_lora.normalize"),
        ({"data.splits.test": {"uniform": [0.1, 0.2]}}, "is not a setting that a trial can change"),
        ({"training.workers": {"choice": [1, 2]}}, "cannot be searched: it does not change what is learnt"),
        ({"finetune.sources": {"choice": [["unifood"]]}}, "cannot be searched: it decides what trials are compared on"),
        ({"adapter.rank": {"choice": []}}, "adapter.rank: choice is empty"),
        ({"adapter.rank": {"choice": [4, 4]}}, "names 4 twice"),
        ({"adapter.rank": {"int": [8, 8]}}, r"the range \[8, 8\] is empty"),
        ({"adapter.rank": {"int": [2, 8.5]}}, "int takes whole numbers"),
        ({"adapter.dropout": {"uniform": [0.3, 0.1]}}, r"the range \[0.3, 0.1\] is empty"),
        ({"adapter.dropout": {"uniform": [0.3]}}, "takes two numbers"),
        ({"adapter.alpha_over_rank": {"uniform": [1, float("inf")]}}, "takes two numbers"),
        ({"adapter.rank": {"uniform": [2, 8]}}, "adapter.rank must be a whole number, got 4.2"),
        ({"vce.enabled": {"uniform": [0, 1]}}, "vce.enabled must be true or false"),
        ({"adapter.kind": {"choice": ["lora_moe"]}, "adapter.rank": {"int": [4, 8]}}, "rank 5 must divide by"),
        ({"adapter.rank": {"int": [1, 100_000]}}, "tune.space with adapter.rank 1: .* at least 2"),
        ({"finetune.template": {"choice": ["v1", "chat"]}}, "it decides what trials are compared on"),
        (
            {"finetune.epochs": {"int": [1, 2000]}, "adapter.kind": {"choice": ["dual_lora", "rode"]}}
            | {"adapter.rank": {"choice": [4, 8]}},
            "adapter.kind rode, adapter.rank 4",
        ),
        ({"adapter.dropout": {"uniform": [0, 1.5]}}, "adapter.dropout must be below 1.0, got 1.5"),
        ({"finetune.learning_rate.adapter": {"log_uniform": [0, 1e-2]}}, "must begin above 0"),
        ({"adapter.rank": {"choice": [4, 0]}}, "adapter.rank 0: adapter.rank must be at least 1, got 0"),
        ({"adapter.kind": {"choice": ["lora", "dora"]}}, "adapter.kind must be 'lora', 'dual_lora'"),
        ({"adapter.rank": {"choice": [2, 8], "int": [1, 2]}}, "takes one of choice, uniform, log_uniform, int"),
        (
            {"adapter.kind": {"choice": ["dual_lora", "rode"]}, "adapter.rank": {"choice": [4, 8]}},
            "tune.space with adapter.kind rode, adapter.rank 4",
        ),
    ],
)
def test_faulty_space_is_refused_in_one_line(params: Params, space: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line) as caught:
        read_space(with_space(params, space))
    assert "\n" not in str(caught.value)


def test_values_that_hold_only_together_are_taken(params: Params) -> None:
    space = {"vce.levels": {"choice": [[-3, -4]]}, "vce.anchor": {"choice": [-3, -4]}}
    assert len(read_space(with_space(params, space))) == 2


def test_grid_counts_its_points(params: Params) -> None:
    space = {"adapter.rank": {"choice": [2, 4]}, "finetune.epochs": {"int": [1, 3]}}
    few = params.tune.budget.model_copy(update={"trials": 5})
    with pytest.raises(UserError, match=r"has 6 points, but tune\.budget\.trials is 5"):
        read_space(with_space(params, space, search="grid", budget=few))
    with pytest.raises(UserError, match="a grid needs choice or int, not uniform"):
        read_space(with_space(params, {"adapter.dropout": {"uniform": [0, 0.1]}}, search="grid"))
    read = read_space(with_space(params, space, search="grid"))
    assert domains(read, grid=True)["finetune.epochs"] == {"grid_search": [1, 2, 3]}


def test_lists_pass_through_a_searcher_and_back(params: Params) -> None:
    choices = [["q_proj", "v_proj"], ["q_proj"]]
    space = read_space(with_space(params, {"adapter.targets": {"choice": choices}, "adapter.rank": {"choice": [4, 8]}}))
    config = {"adapter.targets": encode(choices[1]), "adapter.rank": 4}
    assert all(isinstance(value, (str, int)) for value in config.values())
    values = decode(config, space)
    assert values == {"adapter.targets": ["q_proj"], "adapter.rank": 4}
    assert apply(params, values).adapter.targets == ["q_proj"]


def test_numbers_that_yaml_reads_as_text_are_numbers(params: Params) -> None:
    (dimension,) = read_space(with_space(params, {"finetune.learning_rate.adapter": {"log_uniform": ["1e-4", "1e-2"]}}))
    assert dimension.values == (1e-4, 1e-2)
    (dimension,) = read_space(with_space(params, {"finetune.learning_rate.adapter": {"choice": ["5e-3", "1e-2"]}}))
    assert dimension.values == (5e-3, 1e-2)
    assert present(params, [dimension]) == {"finetune.learning_rate.adapter": 5e-3}


def test_present_settings_outside_the_space_are_no_point_of_it(params: Params) -> None:
    assert present(params, read_space(with_space(params, {"adapter.rank": {"choice": [2, 4]}}))) is None


def test_nested_and_flatten_are_inverse() -> None:
    flat = {"adapter.rank": 8, "finetune.learning_rate.adapter": 0.1, "finetune.epochs": 2}
    assert flatten(nested(flat)) == flat
