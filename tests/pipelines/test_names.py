"""What params.yaml names is known before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.params import load_params, profiles, validate_params
from components.params.trees import changed
from pipelines.names import check_names

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_names_what_is_known(name: str) -> None:
    check_names(profiles.load(name, PARAMS))


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        (
            "data.sources.unifood.kind",
            "unifod",
            r"unifood\.kind is 'unifod', which is not known; near names: unifood",
        ),
        ("evaluate.benchmarks", ["unifood", "popee"], r"evaluate\.benchmarks is 'popee', .* near names: pope"),
        ("evaluate.benchmarks", ["unifood", "pope"], r"evaluate\.files\.pope is missing"),
        ("evaluate.files", {"poppe": {"annotations": "a"}}, r"evaluate\.files is 'poppe'"),
        ("registry.gate.at_least", {"ingrediens.iou": 0.5}, r"gate names ingrediens\.iou; .* near names: ingredients"),
    ],
)
def test_what_is_not_known_is_told_with_near_names(setting: str, value: Any, told: str) -> None:
    tree = changed(load_params(PARAMS).model_dump(), {setting: value})
    with pytest.raises(UserError, match=told):
        check_names(validate_params(tree))
