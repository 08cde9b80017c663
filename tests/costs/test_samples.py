"""Samples of an epoch: 1000 dishes, 400 questions and 120 photos are drawn, 77 % of them to train on."""

from __future__ import annotations

from typing import Any

import pytest

from components.costs.samples import EACH, num_samples
from components.data.tasks import TASKS
from components.errors import UserError
from components.params import profiles


@pytest.mark.parametrize(
    ("tasks", "samples"),
    [
        ([], 770 * 3 + 308 + 462),
        (["ingredients"], 770),
        (["caption"], 462),
        (["choice", "nutrition"], 308 + 770),
    ],
)
def test_samples_are_those_of_the_wanted_tasks(params: Any, tasks: list[str], samples: int) -> None:
    assert num_samples(params, params.finetune.model_copy(update={"tasks": tasks})) == samples


def test_tasks_that_no_source_has_are_refused(params: Any) -> None:
    with pytest.raises(UserError, match="unifood, scienceqa, flickr30k hold no samples of tasks chat"):
        num_samples(params, params.finetune.model_copy(update={"tasks": ["chat"]}))


def test_table_names_tasks_that_there_are() -> None:
    assert {task for tasks in EACH.values() for task in tasks} <= set(TASKS)


@pytest.mark.parametrize("name", sorted(set(profiles.names()) - {"photos"}))
def test_every_profile_of_published_sources_has_its_samples(name: str) -> None:
    params = profiles.load(name)
    assert num_samples(params, params.pretrain)
    assert num_samples(params, params.finetune)


def test_vlora_trains_40_000_steps_on_30_million_pairs() -> None:  # VLoRA, section 4.1
    params = profiles.load("vlora")
    samples = num_samples(params, params.pretrain)
    assert samples is not None
    assert samples / params.pretrain.global_batch == pytest.approx(40_000, rel=0.03)
