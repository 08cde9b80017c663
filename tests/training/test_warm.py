"""Warm groups of real Ray workers: a run there ends as a run alone, whatever the group did before."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from components.errors import UserError
from components.params import Params
from components.params.trees import Value
from components.training.checkpoint import latest_step
from components.training.journal import METRICS_FILE, VALIDATION_FILE, read_journal
from components.training.launcher import fit, ray_session
from components.training.parts import parts_of
from components.training.warm import Group
from tests.training.test_kept import RUNS, assert_same, job_of, learnt
from tests.workspace import prepare_workspace

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    """A prepared workspace, and a Ray with room for a warm group beside a run that is started alone."""
    folder = tmp_path_factory.mktemp("workspace")
    before = Path.cwd()
    os.chdir(folder)
    params = prepare_workspace(folder)
    with ray_session(params.training.model_copy(update={"workers": 2 * params.training.workers})):
        yield params
    os.chdir(before)


@pytest.fixture(scope="module")
def group(params: Params) -> Iterator[Group]:
    with closing(Group({"CPU": 1})) as group:
        yield group


def pids(group: Group) -> list[int]:
    import ray

    return ray.get([worker.process_id.remote() for worker in group._workers])


@pytest.mark.parametrize("name", ["lora", "dual_lora"])
def test_run_in_a_group_learns_what_it_learns_alone(name: str, params: Params, group: Group, tmp_path: Path) -> None:
    lone = job_of(params, RUNS[name], tmp_path / "lone")
    fit(lone)
    with closing(group.run(replace(lone, folder=tmp_path / "left"))) as left:
        next(left)
    before = pids(group)
    warm = replace(lone, folder=tmp_path / "warm")
    covered: list[int] = []
    group.fit(warm, covered.append)
    assert_same(learnt(lone), learnt(warm))
    assert covered[-1:] == [latest_step(warm.folder / "checkpoints")]
    assert pids(group) == before


def test_spoilt_group_is_replaced(params: Params, group: Group, tmp_path: Path) -> None:
    broken = {"zero_optimization": {"overlap_comm": "perhaps"}}  # DeepSpeed itself refuses it
    changes: dict[str, Value] = {**RUNS["lora"], "training.deepspeed": broken}
    group.fit(job_of(params, RUNS["lora"], tmp_path / "before"))
    before = pids(group)
    with pytest.raises(UserError, match="a worker failed"):
        group.fit(job_of(params, changes, tmp_path / "broken"))
    after = job_of(params, RUNS["lora"], tmp_path / "after")
    group.fit(after)
    assert_same(learnt(job_of(params, RUNS["lora"], tmp_path / "before")), learnt(after))
    assert not set(pids(group)) & set(before)


def test_killed_worker_costs_the_steps_since_the_checkpoint(params: Params, group: Group, tmp_path: Path) -> None:
    calm = job_of(params, RUNS["lora"], tmp_path / "calm")
    group.fit(calm)
    killed = replace(calm, folder=tmp_path / "killed")
    steps = group.run(killed)
    next(steps)
    os.kill(pids(group)[1], signal.SIGKILL)
    for _ in steps:
        pass
    assert parts_of(killed) is not None
    assert_same(learnt(calm), learnt(killed))
    for name in (METRICS_FILE, VALIDATION_FILE):
        assert read_journal(killed.folder / name)
