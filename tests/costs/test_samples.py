"""Samples of an epoch: 1000 dishes, 400 questions and 120 photos are drawn, 77 % of them to train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.costs.samples import EACH, num_samples
from components.data.tasks import TASKS
from components.errors import UserError
from components.params import Params, profiles, validate_params
from components.params.trees import changed


@pytest.mark.parametrize(
    ("tasks", "samples"),
    [
        ([], 770 * 3 + 308 + 462),
        (["ingredients"], 770),
        (["caption"], 462),
        (["choice", "nutrition"], 308 + 770),
    ],
)
def test_samples_are_those_of_the_wanted_tasks(params: Any, tasks: list[str], samples: int, tmp_path: Path) -> None:
    assert num_samples(params, params.finetune.model_copy(update={"tasks": tasks}), tmp_path) == samples


def test_tasks_that_no_source_has_are_refused(params: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unifood, scienceqa, flickr30k hold no samples of tasks chat"):
        num_samples(params, params.finetune.model_copy(update={"tasks": ["chat"]}), tmp_path)


def test_table_names_tasks_that_there_are() -> None:
    assert {task for tasks in EACH.values() for task in tasks} <= set(TASKS)


@pytest.mark.parametrize("name", sorted(set(profiles.names()) - {"photos", "compose", "smol"}))
def test_every_profile_of_published_sources_has_its_samples(name: str, tmp_path: Path) -> None:
    params = profiles.load(name)
    assert num_samples(params, params.pretrain, tmp_path)
    assert num_samples(params, params.finetune, tmp_path)


def test_vlora_trains_40_000_steps_on_30_million_pairs(tmp_path: Path) -> None:  # VLoRA, section 4.1
    params = profiles.load("vlora")
    samples = num_samples(params, params.pretrain, tmp_path)
    assert samples is not None
    assert samples / params.pretrain.global_batch == pytest.approx(40_000, rel=0.03)


def with_source(params: Params, name: str, **spec: Any) -> Params:
    tree = params.model_dump()
    tree["data"]["sources"][name] = spec
    return validate_params(changed(tree, {"finetune.sources": [name]}))


OWN = {"kind": "llava_json", "path": "data/raw/hers", "annotations": "train.json", "images": "images.zip"}


def prepared(root: Path, name: str, spec: dict[str, Any], tasks: dict[str, int], rows: int) -> None:
    """What `dvc repro prepare` leaves of a source."""
    folder = root / "data" / "prepared" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"rows": rows, "tasks": tasks}), encoding="utf-8")
    lock = {"stages": {f"prepare@{name}": {"params": {"params.yaml": {f"data.sources.{name}": spec}}}}}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock), encoding="utf-8")


def test_a_source_is_not_known_by_its_name(params: Params, tmp_path: Path) -> None:
    own = with_source(params, "flickr30k", **OWN)
    assert num_samples(own, own.finetune, tmp_path) is None


def test_a_prepared_source_is_counted_by_its_manifest(params: Params, tmp_path: Path) -> None:
    own = with_source(params, "flickr30k", **OWN)
    prepared(tmp_path, "flickr30k", OWN, {"caption": 100, "chat": 50}, rows=120)
    assert num_samples(own, own.finetune, tmp_path) == round(150 * 0.77)
    summary = {"flickr30k": {"train": {"rows": 90, "caption": 80, "chat": 40}, "test": {"rows": 30, "caption": 20}}}
    (tmp_path / "data" / "splits").mkdir()
    (tmp_path / "data" / "splits" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert num_samples(own, own.finetune, tmp_path) == 120
    assert num_samples(own, own.finetune.model_copy(update={"tasks": ["chat"]}), tmp_path) == 40


def test_what_was_prepared_under_other_settings_does_not_count(params: Params, tmp_path: Path) -> None:
    prepared(tmp_path, "unifood", OWN, {"chat": 7}, rows=7)
    alone = params.finetune.model_copy(update={"sources": ["unifood"]})
    assert num_samples(params, alone, tmp_path) == 770 * 3
