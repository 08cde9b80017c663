"""A search removes what it made and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.leases import own, this_home
from components.search.upkeep import claim, num_bytes, owned, prune
from components.shared_storage import shared_storage
from components.workspace import home


def make(name: str, search: str | None, size: int = 10) -> Path:
    run = home() / "runs" / name
    if search:
        claim(run, search)
    run.mkdir(parents=True, exist_ok=True)
    (run / "weights").write_bytes(b"0" * size)
    return run


def test_runs_of_others_are_never_claimed_or_removed() -> None:
    theirs = make("finetune-a", None)
    claim(theirs, "one")
    other = make("finetune-b", "two")
    mine = make("finetune-c", "one")
    assert owned("one") == [mine]
    assert prune("one", ["finetune-a", "finetune-b", "finetune-c"]) == ["finetune-c"]
    assert theirs.exists()
    assert other.exists()


def test_what_is_kept_and_what_tracking_missed_stay() -> None:
    best, waiting, loser = (make(f"finetune-{name}", "one") for name in "abc")
    (waiting / "waiting-one-trial.json").write_text("{}")
    assert prune("one", ["finetune-b", "finetune-c"]) == ["finetune-c"]
    assert [run.exists() for run in (best, waiting, loser)] == [True, True, False]


def test_disk_counts_the_runs_of_the_search() -> None:
    make("finetune-a", "one", size=1000)
    make("finetune-b", None, size=1000)
    assert num_bytes("one") == 1000 + len("one")


def test_disk_counts_what_lies_in_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path}/storage")
    make("finetune-a", "one", size=1000)
    here = num_bytes("one")
    storage = shared_storage()
    assert storage
    storage.write("runs/finetune-a/files/x", bytes(500))
    storage.write("runs/finetune-b/files/x", bytes(500))
    assert num_bytes("one") == here + 500


def test_what_is_removed_goes_from_the_storage_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path}/storage")
    for name in ("finetune-a", "finetune-b"):
        make(name, "one")
        put_there(name)
    assert prune("one", ["finetune-a"]) == ["finetune-a"]
    assert [run.name for run in (tmp_path / "storage" / "runs").iterdir()] == ["finetune-b"]


def put_there(name: str) -> None:
    storage = shared_storage()
    assert storage
    own(storage, name, this_home())
    storage.write(f"runs/{name}/listing.json", b"{}")


def test_runs_that_another_home_put_there_are_never_claimed_or_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEA_STORAGE", f"file://{tmp_path}/storage")
    mine = home()
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))
    put_there("finetune-a")
    monkeypatch.setenv("LEA_HOME", str(mine))
    make("finetune-a", "one")
    assert owned("one") == []
    claim(make("finetune-b", "one"), "one")
    monkeypatch.setenv("LEA_HOME", str(tmp_path / "another"))
    put_there("finetune-b")  # after it was claimed here
    monkeypatch.setenv("LEA_HOME", str(mine))
    assert prune("one", ["finetune-a", "finetune-b"]) == ["finetune-b"]
    assert sorted(run.name for run in (tmp_path / "storage" / "runs").iterdir()) == ["finetune-a", "finetune-b"]
