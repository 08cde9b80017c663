"""What a card holds: less than it is sold with, and more than the tensors alone."""

from __future__ import annotations

import pytest

from components.costs.card import largest_micro_batch, remedies, usable
from components.params import Params, Training

GIB = 2**30


@pytest.fixture
def training(params: Params) -> Training:
    return params.training.model_copy(update={"micro_batch": 4, "workers": 8, "zero_stage": 2})


def needed(training: Training, micro_batch: int) -> int:
    """20 GiB of weights and state, half of them under ZeRO 3; 15 GiB for each sample, 3 where they are recomputed."""
    kept = 10 if training.zero_stage == 3 else 20
    return (kept + micro_batch * (3 if training.activation_checkpointing else 15)) * GIB


def test_a_card_of_80_gib_does_not_hold_what_is_just_below() -> None:
    assert usable(80 * GIB) < 79.3 * GIB
    assert usable(80 * GIB) < 78 * GIB * 0.96  # an H100 shows 78, some of it in pieces
    assert usable(80 * GIB) > 74 * GIB


def test_nothing_is_advised_where_it_fits(training: Training) -> None:
    assert remedies(training, needed, 90 * GIB) == []
    assert largest_micro_batch(training, needed, 90 * GIB) == 4


def test_each_setting_that_makes_it_fit_is_advised(training: Training) -> None:
    assert remedies(training, needed, 80 * GIB) == [
        {"settings": {"micro_batch": 2}, "total": 50 * GIB},
        {"settings": {"activation_checkpointing": True}, "total": 32 * GIB},
        {"settings": {"zero_stage": 3}, "total": 70 * GIB},
    ]


def test_two_settings_are_advised_where_one_does_not_do(training: Training) -> None:
    both = {"activation_checkpointing": True, "zero_stage": 3}
    assert remedies(training, needed, 24 * GIB) == [{"settings": both, "total": 22 * GIB}]


def test_what_never_fits_has_no_remedy(training: Training) -> None:
    assert remedies(training, needed, 10 * GIB) == []
    assert largest_micro_batch(training, needed, 10 * GIB) is None


def test_one_worker_has_nobody_to_share_with(training: Training) -> None:
    alone = training.model_copy(update={"workers": 1})
    assert all("zero_stage" not in one["settings"] for one in remedies(alone, needed, 80 * GIB))
