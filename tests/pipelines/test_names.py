"""What params.yaml names is known before anything is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.params import load_params, profiles, validate_params
from components.params.trees import changed
from pipelines.names import check_names, check_tasks

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.parametrize("name", profiles.names())
def test_every_profile_names_what_is_known(name: str) -> None:
    check_names(profiles.load(name, PARAMS))


@pytest.mark.parametrize(
    ("setting", "value", "message"),
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
        (
            "registry.gate.at_least",
            {"ingredients.iou": 70},
            r"at_least\.ingredients\.iou is 70, .* did you mean 0\.7\?",
        ),
        ("registry.gate.at_least", {"recipe.rouge_l": 120}, r"recipe\.rouge_l is 120, but it goes from 0 to 100"),
    ],
)
def test_what_is_not_known_is_reported_with_near_names(setting: str, value: Any, message: str) -> None:
    tree = changed(load_params(PARAMS).model_dump(), {setting: value})
    with pytest.raises(UserError, match=message):
        check_names(validate_params(tree))


@pytest.mark.parametrize("place", ["models/base", "./models/base/", "models/pretrain/mine"])
@pytest.mark.parametrize("setting", ["base.checkpoint.model", "base.compose.language"])
def test_base_where_dvc_would_delete_it_is_refused(
    setting: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(place).mkdir(parents=True)
    settings = {setting: place, "base.kind": setting.split(".")[1]}
    tree = changed(load_params(PARAMS).model_dump(), settings)
    with pytest.raises(UserError, match=rf"{setting} is \S+, in models/\w+, which a stage writes"):
        check_names(validate_params(tree))
    Path(place).rename("models/mine")
    check_names(validate_params(changed(tree, {setting: "models/mine"})))


def in_splits(folder: Path, **tasks: int) -> None:
    (folder / "data" / "splits").mkdir(parents=True)
    summary = {"unifood": {"train": {"rows": 9, "choice": 9}, "test": {"rows": 3, **tasks}}}
    (folder / "data" / "splits" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        ({"ingredients": 3}, {}, None),
        ({"choice": 3}, {}, r"gate names ingredients\.iou, but the test split .* holds only choice: it would never"),
        ({"choice": 3}, {"registry.gate": {"at_least": {}, "at_most": {}, "not_worse": {}}}, None),
        ({"caption": 3}, {"evaluate.benchmarks": ["scienceqa"]}, r"\(scienceqa\) ask choice, but .* only caption"),
        ({}, {}, "holds only nothing"),
    ],
)
def test_what_the_splits_cannot_measure_is_said_before_training(
    tasks: dict[str, int],
    settings: dict[str, Any],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_splits(tmp_path, **tasks)
    monkeypatch.chdir(tmp_path)
    params = validate_params(changed(load_params(PARAMS).model_dump(), settings))
    if message is None:
        check_tasks(params)
        return
    with pytest.raises(UserError, match=message):
        check_tasks(params)


def test_levels_are_checked_against_an_encoder_that_is_here(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 384, "num_hidden_layers": 3}), encoding="utf-8")
    tree = changed(load_params(PARAMS).model_dump(), {"base.kind": "compose", "base.compose.vision": str(tmp_path)})
    with pytest.raises(UserError, match=r"vce\.levels holds -5, but the vision encoder has hidden states 0 to 3"):
        check_names(validate_params(tree))
    (tmp_path / "config.json").write_text('{"vision_config": {"hidden_size": 384, "num_hidden_layers": 12}}', "utf-8")
    check_names(validate_params(tree))
