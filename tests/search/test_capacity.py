"""A search that cannot get its workers is refused, with what would fit."""

from __future__ import annotations

import pytest

from components.errors import UserError
from components.params import Params
from components.search.capacity import check_capacity, num_workers


def wanting(params: Params, trials: int, workers: int, gpu: float | None = None) -> Params:
    more = {"concurrent_trials": trials, "workers_per_trial": workers, "gpu_per_worker": gpu or 1.0}
    training = params.training.model_copy(update={"use_gpu": gpu is not None})
    return params.model_copy(update={"tune": params.tune.model_copy(update=more), "training": training})


def test_trials_take_a_little_of_a_node() -> None:
    assert num_workers([{"CPU": 2}], 1, 0) == 1
    assert num_workers([{"CPU": 2.5}], 1, 0) == 2
    assert num_workers([{"CPU": 8, "GPU": 2}, {"CPU": 8}], 2, 0.5) == 4
    assert num_workers([{"CPU": 3, "GPU": 8}], 2, 1) == 2


def test_a_trial_is_on_one_node_alone() -> None:
    nodes = [{"CPU": 2}] * 3
    assert [num_workers(nodes, trials, 0) for trials in (1, 2, 3, 9)] == [5, 4, 3, 3]


def test_what_fits_passes(params: Params) -> None:
    check_capacity(wanting(params, 2, 2), [{"CPU": 3}, {"CPU": 3}], "the cluster")
    check_capacity(wanting(params, 4, 1, gpu=0.5), [{"CPU": 16, "GPU": 2}], "the cluster")


@pytest.mark.parametrize(
    ("trials", "workers", "line"),
    [
        (
            2,
            2,
            r"2 concurrent trials of 2 workers need 4 places of a CPU, but the cluster has 2; what would fit: "
            r"tune\.concurrent_trials 1 with workers_per_trial 2, or concurrent_trials 2 with workers_per_trial 1",
        ),
        (1, 5, r"what would fit: tune\.concurrent_trials 1 with workers_per_trial 1"),
    ],
)
def test_what_would_wait_for_ever_is_refused(params: Params, trials: int, workers: int, line: str) -> None:
    with pytest.raises(UserError, match=line):
        check_capacity(wanting(params, trials, workers), [{"CPU": 2.9}], "the cluster")


def test_cluster_without_a_gpu_is_reported(params: Params) -> None:
    with pytest.raises(UserError, match=r"a CPU and 1 GPU, but the cluster has 0; no trial fits"):
        check_capacity(wanting(params, 1, 1, gpu=1.0), [{"CPU": 16}], "the cluster")
