from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.batching.sampler import Plan, alone, deal

ROWS = st.lists(st.integers(1, 6), min_size=1, max_size=40)  # samples of each row


def plan(rows: list[int], batch: int, seed: int = 3) -> Plan:
    return Plan(np.cumsum([0, *rows]), batch, 2, seed)


@settings(deadline=None)
@given(rows=ROWS, batch=st.integers(1, 30))
def test_every_sample_comes_once_an_epoch(rows: list[int], batch: int) -> None:
    own = plan(rows, batch)
    for epoch in range(2):
        steps = range(epoch * own.steps_per_epoch, (epoch + 1) * own.steps_per_epoch)
        seen = [int(sample) for step in steps for unit in own.batch(step) for sample in unit]
        assert sorted(seen) == list(range(sum(rows)))


@settings(deadline=None)
@given(rows=ROWS, batch=st.integers(1, 30))
def test_steps_are_of_one_size_but_the_last_of_an_epoch(rows: list[int], batch: int) -> None:
    own = plan(rows, batch)
    sizes = [sum(len(unit) for unit in own.batch(step)) for step in range(own.steps)]
    last = sizes[own.steps_per_epoch - 1 :: own.steps_per_epoch]
    assert set(last) == {own.last_batch}
    assert set(sizes) <= {batch, own.last_batch}
    assert 1 <= own.last_batch <= batch


@settings(deadline=None)
@given(rows=ROWS, batch=st.integers(1, 30))
def test_units_hold_samples_of_one_row(rows: list[int], batch: int) -> None:
    own = plan(rows, batch)
    row_of = np.repeat(np.arange(len(rows)), rows)
    for step in range(own.steps):
        for unit in own.batch(step):
            assert len(set(row_of[unit])) == 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    rows = [2] * 30

    def order(seed: int, start: int) -> list[int]:
        own = plan(rows, 10, seed)
        return [int(s) for step in range(start, start + 6) for unit in own.batch(step) for s in unit]

    assert order(3, 0) == order(3, 0)
    assert order(3, 0) != order(4, 0)
    assert order(3, 0) != order(3, 6)
    assert (
        plan(rows, 10).batch(7)[0].tolist() == plan(rows, 10).batch(7)[0].tolist()
    )  # at once, without the steps before


@settings(deadline=None)
@given(rows=ROWS, workers=st.integers(1, 4), micro=st.integers(1, 4), shared=st.booleans())
def test_shares_of_all_workers_make_up_the_batch(rows: list[int], workers: int, micro: int, shared: bool) -> None:
    own = plan(rows, 16)
    units = own.batch(0) if shared else alone(own.batch(0))
    lengths = np.arange(sum(rows))
    shares = [deal(units, lengths, lengths % 2 == 0, rank, workers, micro) for rank in range(workers)]
    assert {len(share) for share in shares} == {micro}
    dealt = [int(sample) for share in shares for part in share for unit in part for sample in unit]
    assert sorted(dealt) == sorted(int(sample) for unit in units for sample in unit)


def test_parts_hold_about_equally_many_samples() -> None:
    own = plan([1, 3, 5] * 64, 64)
    shares = [deal(own.batch(0), np.full(576, 9), np.full(576, True), rank, 2, 4) for rank in range(2)]
    sizes = [sum(len(unit) for unit in part) for share in shares for part in share]
    assert sum(sizes) == 64
    assert max(sizes) <= 64 / 8 + 5


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_hold_like_lengths_at_the_same_time(workers: int) -> None:
    own = plan([1] * 64, 64)
    lengths = np.random.default_rng(0).integers(10, 1000, 64)
    shares = [deal(own.batch(0), lengths, lengths > 0, rank, workers, 4) for rank in range(workers)]
    spread = max(
        abs(np.mean(lengths[np.concatenate(a)]) - np.mean(lengths[np.concatenate(b)]))
        for a, b in zip(shares[0], shares[-1], strict=True)
    )
    assert spread < 250


def test_text_and_images_are_apart_in_the_parts() -> None:
    own = plan([1] * 64, 64)
    has_image = np.arange(64) < 32
    lengths = np.random.default_rng(0).integers(10, 1000, 64)
    shares = [deal(own.batch(0), lengths, has_image, rank, 2, 4) for rank in range(2)]
    kinds = [{bool(has_image[unit[0]]) for unit in part} for share in shares for part in share]
    assert all(len(kind) == 1 for kind in kinds)
