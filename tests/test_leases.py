"""Homes that share a storage: one owns a run there, one is at work on it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from components import leases
from components import shared_storage as shared
from components.errors import UserError
from components.leases import Holder, held, own, remove_own, renew, take, this_home
from components.shared_storage import SharedStorage, StorageError
from components.snapshots import is_there

A, B = Holder("a" * 32, "one:/home/a/.lea"), Holder("b" * 32, "two:/home/b/.lea")


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStorage:
    monkeypatch.setattr(shared, "PAUSES_S", ())
    return SharedStorage(f"file://{tmp_path}/store")


def written(storage: SharedStorage, holder: Holder, seconds_ago: float) -> None:
    line = {"id": holder.id, "place": holder.place, "time": time.time() - seconds_ago}
    storage.write("runs/run/lease.json", json.dumps(line).encode())


def test_a_home_keeps_its_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = this_home()
    assert this_home() == mine
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))
    assert this_home().id != mine.id


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.05)
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.01)


def test_a_run_that_another_home_is_at_work_on_is_refused_once_it_renews(storage: SharedStorage, soon: None) -> None:
    with held(storage, "run", A):
        take(storage, "run", A)
        with pytest.raises(UserError, match=r"run in .* is at work from one:/home/a/.lea: wait until it ends there"):
            take(storage, "run", B)
    take(storage, "run", B)  # released


def test_a_home_that_was_killed_frees_its_run_after_a_while(
    storage: SharedStorage, soon: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job of the cluster is tried again at once when its driver is killed; it has no other try."""
    monkeypatch.setattr(leases, "FREE_AFTER_S", 0.3)
    written(storage, A, seconds_ago=0)
    since = time.monotonic()
    take(storage, "run", B)
    assert time.monotonic() - since > 0.2
    assert "was at work from one:/home/a/.lea 0 s ago: waiting" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"is now at work from two:/home/b/.lea"):
        renew(storage, "run", A)
    written(storage, A, seconds_ago=1)
    take(storage, "run", B)
    assert not capsys.readouterr().err


def test_a_clock_that_is_ahead_there_is_not_waited_for(
    storage: SharedStorage, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "FREE_AFTER_S", 0.1)
    written(storage, A, seconds_ago=-3600)
    take(storage, "run", B)


def test_a_lease_is_renewed_while_it_is_held(storage: SharedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_EVERY_S", 0.01)
    monkeypatch.setattr(leases, "LOOK_EVERY_S", 0.1)
    begun = time.time()
    with held(storage, "run", A):
        written(storage, A, seconds_ago=1000)
        until = time.monotonic() + 10
        while time.monotonic() < until and json.loads(storage.read("runs/run/lease.json") or b"")["time"] < begun:
            time.sleep(0.01)
        with pytest.raises(UserError, match="at work from"):
            take(storage, "run", B)


def test_a_damaged_lease_is_named(storage: SharedStorage) -> None:
    storage.write("runs/run/lease.json", b"[1]")
    with pytest.raises(StorageError, match=r"runs/run/lease.json is damaged; remove it"):
        take(storage, "run", A)


def test_only_the_home_that_put_a_run_there_removes_it(storage: SharedStorage) -> None:
    mine = this_home()
    for run, holder in (("mine", mine), ("theirs", A), ("of before", None)):
        if holder:
            own(storage, run, holder)
        storage.write(f"runs/{run}/listing.json", b"{}")
        own(storage, run, mine)  # too late
    assert [remove_own(storage, run) for run in ("mine", "theirs", "of before")] == [True, False, False]
    assert [is_there(storage, run) for run in ("mine", "theirs", "of before")] == [False, True, True]


def test_a_run_that_another_home_is_at_work_on_is_not_removed(storage: SharedStorage) -> None:
    own(storage, "run", this_home())
    with held(storage, "run", B):
        assert not remove_own(storage, "run")
    assert remove_own(storage, "run")
