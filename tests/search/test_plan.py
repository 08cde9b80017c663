"""What a search checks before Ray starts, and what it leaves where nothing was found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.errors import UserError
from components.files import write_json
from components.params import Params
from components.search.search import plan
from components.tracking import store
from components.tracking.searches import fail_search
from components.training.stage import ASSIGNMENTS
from tests.workspace import prepare_workspace

SPACE = {"finetune.global_batch": {"choice": [8, 9]}}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Params]:
    """A workspace with all data, and a stage 1 of which only the digest is taken; it is the current folder."""
    folder = tmp_path_factory.mktemp("plan")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LEA_HOME", str(folder / "home"))
        params = prepare_workspace(folder, tune__space=SPACE)
        start = Path("models/pretrain")
        start.mkdir(parents=True)
        write_json(start / "model.json", {"base": {"digest": "b"}, "adapter": None})
        (start / "connector.safetensors").write_bytes(b"")
        yield params


def with_workers(params: Params, workers: int) -> Params:
    return params.model_copy(update={"tune": params.tune.model_copy(update={"workers_per_trial": workers})})


def test_space_is_checked_with_the_workers_of_a_trial(prepared: Params) -> None:
    assert prepared.training.workers == 2  # of which 9 is no multiple
    assert plan(with_workers(prepared, 1)).setting.space[0].values == (8, 9)
    with pytest.raises(UserError, match=r"tune\.space with finetune\.global_batch 9: .* multiple of training\.workers"):
        plan(with_workers(prepared, 4))
    with pytest.raises(UserError, match=r"tune\.workers_per_trial 3: .* multiple of training\.workers"):
        plan(with_workers(prepared, 3))


def test_search_is_begun_once_there_is_something_to_go_on_from(prepared: Params) -> None:
    search = plan(with_workers(prepared, 1))
    (search.state / "tune").mkdir(parents=True)
    (search.state / "tune/tuner.pkl").touch()  # Ray Tune writes it before any trial
    assert not search.is_begun
    (search.state / "tune/experiment_state-2026.json").touch()
    assert search.is_begun
    search.end()
    assert not search.is_begun


@pytest.mark.parametrize("split", ["validation", "test"])
def test_split_without_samples_is_reported_before_the_trials(split: str, prepared: Params) -> None:
    before = ASSIGNMENTS.read_bytes()
    table = pq.read_table(ASSIGNMENTS)
    names = pa.array(["train" if name == split else name for name in table["split"].to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("split"), "split", names), ASSIGNMENTS)
    try:
        with pytest.raises(UserError, match=f"split {split} of .* has no samples"):
            plan(with_workers(prepared, 1))
    finally:
        ASSIGNMENTS.write_bytes(before)


def test_search_that_found_nothing_ends_as_failed_in_the_store() -> None:
    assert fail_search("search-abc", "no trial of 2 finished")
    client = store.connect()
    (run,) = client.search_runs([store.experiment_id(client)])
    assert (run.info.status, run.data.tags["lea.why"]) == ("FAILED", "no trial of 2 finished")
