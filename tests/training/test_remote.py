"""A run by way of the storage: the same bits, whichever node it is on, and nothing of it on this machine's disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components import leases, snapshots
from components.errors import UserError
from components.locks import lock_if_free
from components.model.stored import model_digest
from components.params import Params
from components.shared_storage import SharedStorage, StorageAway, StorageError, shared_storage
from components.training import loop, remote, stage, warm, worker
from components.training.checkpoint import TrainState, load_checkpoint, save_checkpoint
from components.training.job import Job
from components.training.journal import METRICS_FILE, read_journal
from components.training.launcher import explained
from components.training.parts import PARTS
from components.training.remote import Mirror, Publisher, Remote, bring, localized, put_inputs, recall, settle
from components.training.run_files import latest_of, state_files
from tests.workspace import prepare_workspace


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory, one_rank: None) -> Iterator[Params]:
    folder, before = tmp_path_factory.mktemp("remote"), Path.cwd()
    os.chdir(folder)
    yield prepare_workspace(folder, training__workers=1)
    os.chdir(before)


@pytest.fixture
def job(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A run, with a storage; nodes keep their caches elsewhere."""
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path}/storage")
    monkeypatch.setattr(remote, "EVERY_S", 0.0)
    on_node("one", tmp_path, monkeypatch)
    return stage.make_job("pretrain", params, params.pretrain, None, None)


def on_node(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))


def started(job: Job) -> Remote:
    storage = shared_storage()
    assert storage
    there = put_inputs(job, storage)
    job.folder.mkdir(parents=True, exist_ok=True)
    settle(job, there)
    return there


def until(step: int) -> Callable[..., Any]:
    """`ahead` of a worker that dies after a step."""
    whole = loop.ahead
    return lambda make, steps, readers: whole(make, range(steps.start, min(step, steps.stop)), readers)


def test_a_run_that_changes_nodes_ends_as_one_that_stays_here(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.train(job)
    calm, journal = model_digest(job.folder / PARTS), (job.folder / METRICS_FILE).read_bytes()
    shutil.rmtree(job.folder)

    there = started(job)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "ahead", until(3))
        patch.setattr(loop._Run, "close", lambda self: None)
        here = localized(job, there)
        assert not [path for path in (here.base, here.folder, here.assignments) if path.is_relative_to(Path.cwd())]
        loop.train(here, Publisher(here, there))
    on_node("two", tmp_path, monkeypatch)
    here = localized(job, there)
    assert len(read_journal(here.folder / METRICS_FILE)) == 3
    loop.train(here, Publisher(here, there))

    bring(job, there.storage)
    assert model_digest(job.folder / PARTS) == calm
    assert (job.folder / METRICS_FILE).read_bytes() == journal


def test_progress_is_seen_from_here_while_workers_write(job: Job) -> None:
    there = started(job)
    here = localized(job, there)
    mirror = Mirror(job, there, clock=lambda: 0.0)
    assert mirror.covered() == 0
    loop.train(here, Publisher(here, there))
    assert mirror.covered() == 0  # not looked for again so soon
    later = Mirror(job, there)
    assert later.covered() == 4
    assert len(read_journal(job.folder / METRICS_FILE)) == 4
    assert not (job.folder / PARTS).exists()


def test_what_is_here_stays_where_the_storage_has_lost_the_run(job: Job) -> None:
    loop.train(job)
    there = started(job)
    before = sorted(state_files(job.folder))
    snapshots.remove_run(there.storage, there.run)
    assert Mirror(job, there).covered(at_once=True) == 0
    with pytest.raises(UserError, match=r"no longer holds run pretrain-.* stays"):
        bring(job, there.storage)
    assert sorted(state_files(job.folder)) == before


def test_a_run_that_another_home_trains_is_neither_started_nor_written(
    job: Job, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.05)
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.01)
    theirs = started(job)
    here = localized(job, theirs)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "ahead", until(3))
        patch.setattr(loop._Run, "close", lambda self: None)
        loop.train(here, Publisher(here, theirs))
    save_checkpoint(here.folder / "checkpoints", TrainState(3, 3, {}, {}, {}))
    Publisher(here, theirs)(True)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))
    mine = put_inputs(job, theirs.storage)
    elsewhere = stage.make_job("pretrain", params, params.pretrain, None, None)
    with leases.held(theirs.storage, theirs.run, theirs.holder):
        for start in (lambda: settle(job, mine), lambda: recall(elsewhere)):
            with pytest.raises(UserError, match=r"is at work from .*: wait until it ends there"):
                start()
    assert not elsewhere.folder.exists()  # nothing was read while it changes
    assert localized(job, mine).folder != here.folder  # on one node too
    settle(job, mine)
    with pytest.raises(UserError, match="is now at work from"):
        Publisher(here, theirs)(True)


def test_a_run_is_free_again_when_it_ends(job: Job) -> None:
    job.folder.mkdir(parents=True)
    with remote.held(job) as there:
        assert there
        assert there.storage.exists(f"runs/{there.run}/lease.json")
    assert not there.storage.exists(f"runs/{there.run}/lease.json")


def test_journals_are_in_the_storage_before_they_are_followed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm group: what follows a run makes the journals here those of the storage."""
    job.folder.mkdir(parents=True)
    (job.folder / METRICS_FILE).write_text('{"step": 1}\n', encoding="utf-8")
    followed: list[bool] = []

    class Watched(warm.Watcher):
        def __enter__(self) -> None:
            assert self._mirror
            self._mirror.covered(at_once=True)
            followed.append((job.folder / METRICS_FILE).exists())

        def __exit__(self, *_: object) -> None:
            pass

    def written(self: object, job: Job, there: Remote) -> Iterator[None]:
        listing = snapshots.run_listing(there.storage, there.run)
        followed.append(listing is not None and METRICS_FILE in listing)
        yield

    monkeypatch.setattr(warm, "Watcher", Watched)
    monkeypatch.setattr(warm.Group, "_run_once", written)
    warm.Group({}).fit(job)
    assert followed == [True, True]


def test_what_another_machine_has_trained_is_not_trained_again(
    job: Job, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = started(job)
    here = localized(job, there)
    loop.train(here, Publisher(here, there))
    leases.release(there.storage, there.run, there.holder)
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))
    again = stage.make_job("pretrain", params, params.pretrain, None, None)
    recall(again)
    assert model_digest(again.folder / PARTS) == model_digest(here.folder / PARTS)


def test_a_finished_run_comes_by_a_key_that_only_reads(
    job: Job, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it waited for while its home holds it: what is finished does not change."""
    there = started(job)
    here = localized(job, there)
    loop.train(here, Publisher(here, there))
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))

    def forbidden(self: SharedStorage, name: str, content: bytes) -> None:
        raise StorageError(f"{self.url} does not let {name} be written with these credentials")

    monkeypatch.setattr(SharedStorage, "write", forbidden)
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.01)
    again = stage.make_job("pretrain", params, params.pretrain, None, None)
    recall(again)
    assert model_digest(again.folder / PARTS) == model_digest(here.folder / PARTS)


def test_checkpoints_are_read_once_when_a_run_starts(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = hashlib.file_digest
    there = started(job)
    for step in (1, 2):
        save_checkpoint(job.folder / "checkpoints", TrainState(step, step, {}, {}, {}))
    weights = job.folder / "checkpoints" / "step-00000002" / "weights.safetensors"
    written = weights.read_bytes()
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: (read.append(file.name), whole(file, kind))[1])
    for _ in range(2):
        read.clear()
        settle(job, there)
        assert len([name for name in read if name.endswith(".safetensors")]) == 6
    flip(weights)
    settle(job, there)
    assert weights.read_bytes() == written  # it was seen


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_a_finished_run_whose_copy_here_is_damaged_is_not_trained_again(
    job: Job, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = started(job)
    here = localized(job, there)
    loop.train(here, Publisher(here, there))
    bring(job, there.storage)
    whole = snapshots.run_listing(there.storage, there.run)
    for damaged in (*(job.folder / "checkpoints").glob("*/weights.safetensors"), job.folder / PARTS / "model.json"):
        flip(damaged)
    monkeypatch.setattr(stage, "sync_training", lambda *_, **__: None)
    stage.run_training("pretrain", params, params.pretrain, None, None, None, lambda *_, **__: pytest.fail("trained"))
    assert "already done" in capsys.readouterr().out
    settle(job, there)
    assert snapshots.run_listing(there.storage, there.run) == whole


def test_a_damaged_checkpoint_reaches_the_storage_from_neither_side(job: Job) -> None:
    """An earlier version may have put one there: it does not pass for further than an intact one here."""
    there = started(job)
    loop.train(job)
    (newest,) = (job.folder / "checkpoints").iterdir()
    older = newest.with_name("step-00000002")
    state = load_checkpoint(newest.parent, 4)
    save_checkpoint(newest.parent, replace(state, step=2))
    weights = (newest / "weights.safetensors").read_bytes()
    flip(newest / "weights.safetensors")
    snapshots.publish(there.storage, there.run, job.folder, state_files, snapshots.Digests())
    settle(job, there)  # here and there 2 is the newest that is intact
    listing = snapshots.run_listing(there.storage, there.run) or {}
    assert {name.split("/")[1] for name in listing if name.startswith("checkpoints/")} == {older.name}
    assert newest.exists()
    (newest / "weights.safetensors").write_bytes(weights)
    settle(job, there)
    assert latest_of(snapshots.run_listing(there.storage, there.run) or {}) == 4


def test_what_is_done_is_found_out_while_the_run_is_locked(
    job: Job, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two queued experiments may come to a run together: the second must see what the first has left."""
    free: list[bool] = []

    def looked(job: Job) -> None:
        with lock_if_free(job.folder.name) as is_free:
            free.append(is_free)

    monkeypatch.setattr(stage, "recall", looked)
    monkeypatch.setattr(stage, "sync_training", lambda *_, **__: None)
    train = lambda job, on_checkpoint: loop.train(job)  # noqa: E731
    stage.run_training("pretrain", params, params.pretrain, None, None, None, train)
    assert free == [False]


def test_a_mistake_is_found_by_the_next_group_and_forgotten_by_the_next_run(job: Job) -> None:
    there = started(job)
    remote.leave_mistake(there, "lower the learning rate")
    assert worker.mistake_of(job, there) == "lower the learning rate"
    worker.work(worker.message(job, there))  # exits at once
    settle(job, there)
    assert worker.mistake_of(job, there) is None


def test_a_storage_that_fails_is_named_with_the_node(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    there = started(job)
    monkeypatch.setattr("components.nodes.this_node", lambda: "node-7")

    def forbidden(self: SharedStorage, name: str, file: Path) -> None:
        raise StorageError("no credentials for s3://b")

    monkeypatch.setattr(SharedStorage, "get", forbidden)
    with pytest.raises(UserError, match="worker on node-7: no credentials for s3://b"):
        worker.work(worker.message(job, there))
    assert worker.mistake_of(job, there) == "worker on node-7: no credentials for s3://b"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether the store is away: nothing is read or written then."""
    monkeypatch.setattr("components.shared_storage.PAUSES_S", ())
    monkeypatch.setattr("components.nodes.this_node", lambda: "node-7")
    is_away, tried = False, SharedStorage._tried

    def act(self: SharedStorage, *arguments: Any) -> Any:
        if is_away:
            raise StorageAway(f"{self.url} cannot be read: EndpointConnectionError")
        return tried(self, *arguments)

    def be(now: bool) -> None:
        nonlocal is_away
        is_away = now

    monkeypatch.setattr(SharedStorage, "_tried", act)
    return be


def test_a_store_that_is_away_while_only_journals_are_published_is_said_once(
    job: Job, away: Callable[[bool], None], capsys: pytest.CaptureFixture[str]
) -> None:
    there = started(job)
    here = localized(job, there)
    publish = Publisher(here, there)
    (here.folder).mkdir(parents=True, exist_ok=True)
    (here.folder / METRICS_FILE).write_text("{}\n", encoding="utf-8")
    away(True)
    publish(False)
    publish(False)
    assert capsys.readouterr().err.count("progress is published later: file://") == 1
    with pytest.raises(StorageAway):
        publish(True)
    away(False)
    publish(False)
    assert METRICS_FILE in (snapshots.run_listing(there.storage, there.run) or {})


def test_a_store_that_is_away_is_no_mistake(
    job: Job, away: Callable[[bool], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray starts the group again, max_failures times; the store may be back then."""
    there = started(job)
    trained: list[Job] = []
    monkeypatch.setattr(worker, "_train", lambda job, there: (trained.append(job), away(len(trained) == 1)))
    monkeypatch.setattr(worker, "leave", lambda job: there.storage.exists("a"))
    with pytest.raises(RuntimeError, match=r"worker on node-7: file://.* cannot be read: EndpointConnectionError"):
        worker.work(worker.message(job, there))
    with pytest.raises(RuntimeError, match="worker on node-7"):
        worker.work(worker.message(job, there))  # before it is back
    away(False)
    worker.work(worker.message(job, there))
    assert len(trained) == 2
    with pytest.raises(RuntimeError, match="worker on node-7"), worker.errors_that_travel():  # of a warm group
        raise StorageAway("it does not answer")


def test_a_warm_group_starts_again_when_the_store_was_away(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[Exception] = [
        StorageAway("away"),  # at `settle` of the second start
        explained([RuntimeError("worker on node-7: s3://b cannot be read")], job),
    ]
    settled, began = settle, []

    def settling(job: Job, there: Remote) -> None:
        if len(ends) == 1:
            raise ends.pop()
        settled(job, there)

    def run_once(self: object, job: Job, there: Remote) -> Iterator[None]:
        began.append(job)
        if ends:
            raise ends.pop()
        yield

    monkeypatch.setattr(warm, "settle", settling)
    monkeypatch.setattr(warm.Group, "_run_once", run_once)
    job.folder.mkdir(parents=True)
    training = job.training.model_copy(update={"max_failures": 2})
    list(warm.Group({}).run(replace(job, training=training)))
    assert len(began) == 2
