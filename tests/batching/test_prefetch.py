"""Work done ahead changes nothing but the waiting."""

from __future__ import annotations

import threading
import time

import pytest

from components.batching.prefetch import ahead


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_order_whoever_is_quicker(threads: int) -> None:
    def make(step: int) -> int:
        time.sleep(0.002 * (step % 3))
        return step * step

    assert list(ahead(make, range(4, 30), threads)) == [step * step for step in range(4, 30)]


def test_look_ahead_is_bounded() -> None:
    made = list[int]()
    results = ahead(lambda step: made.append(step) or step, range(100), 1)
    assert next(results) == 0
    time.sleep(0.1)
    assert len(made) <= 3  # the one handed out and two ahead
    results.close()
    time.sleep(0.05)
    assert len(made) <= 3


def test_next_step_is_made_while_this_one_is_used() -> None:
    reached = threading.Event()

    def make(step: int) -> int:
        if step == 1:
            reached.set()
        return step

    results = ahead(make, range(3), 1)
    next(results)
    assert reached.wait(5)
    results.close()


def test_error_comes_at_its_own_step() -> None:
    results = ahead(lambda step: 1 // (2 - step), range(5), 1)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_run_that_goes_on_gets_what_the_other_would_have_got() -> None:
    whole = list(ahead(lambda step: step + 7, range(20), 2))
    first = ahead(lambda step: step + 7, range(20), 2)
    taken = [next(first) for _ in range(9)]
    first.close()
    assert taken + list(ahead(lambda step: step + 7, range(9, 20), 2)) == whole
