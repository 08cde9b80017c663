"""Stores that are away, silent or named wrongly: one line each, and it is known whether a later try may work."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import ANY

import fsspec.config
import pytest
from s3fs import S3FileSystem

from components import shared_storage as shared
from components.errors import UserError
from components.shared_storage import SharedStorage, StorageAway, StorageError, shared_storage


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStorage:
    monkeypatch.setattr(shared, "PAUSES_S", (0, 0, 0))
    return SharedStorage(f"file://{tmp_path}/store")


def failing(storage: SharedStorage, monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """Every read of the store fails; the paths that were tried."""
    tried: list[str] = []

    def cat_file(path: str) -> bytes:
        tried.append(path)
        raise error

    monkeypatch.setattr(storage._store, "cat_file", cat_file)
    return tried


@pytest.mark.parametrize(
    ("error", "passes", "tries"),
    [
        (OSError("connection refused"), True, 4),
        (type("ReadTimeoutError", (Exception,), {})("no answer"), True, 1),  # its client has tried before
        (PermissionError("Access Denied"), False, 1),
        (type("NoCredentialsError", (Exception,), {})(), False, 1),
    ],
)
def test_what_may_pass_is_tried_again_and_told_from_what_lasts(
    error: Exception, passes: bool, tries: int, storage: SharedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = failing(storage, monkeypatch, error)
    with pytest.raises(StorageError) as caught:
        storage.read("a")
    assert isinstance(caught.value, StorageAway) == passes
    assert len(tried) == tries


def test_one_who_comes_back_soon_does_not_wait(
    storage: SharedStorage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = failing(storage, monkeypatch, OSError("connection refused"))
    with pytest.raises(StorageAway):
        storage.read("a")
    assert capsys.readouterr().err.count("connection refused; trying again") == 1
    tried.clear()
    with pytest.raises(StorageAway):
        storage.at_once().read("a")
    assert len(tried) == 1
    assert not capsys.readouterr().err


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The S3 endpoint accepts connections and never answers."""
    S3FileSystem.clear_instance_cache()  # by its arguments, without the endpoint
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield server
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    "access",
    [
        lambda storage: storage.read("a"),
        lambda storage: storage.write("a", b"short"),  # no leave to send it comes
        lambda storage: storage.write("a", bytes(8 << 20)),  # more than a socket holds
    ],
)
def test_a_silent_store_is_given_up(
    access: Callable[[SharedStorage], object], silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three requests, which s3fs does not try five times more, nor we again."""
    monkeypatch.setattr(shared, "S3_CONFIG", {**shared.S3_CONFIG, "read_timeout": 0.2})
    monkeypatch.setattr(shared, "PAUSES_S", ())
    since = time.monotonic()
    with pytest.raises(StorageAway, match=r"s3://bucket/lea/a cannot be (read|written): "):
        access(SharedStorage("s3://bucket/lea"))
    assert time.monotonic() - since < 15


def test_what_fsspecs_configuration_says_of_the_client_holds(
    silent: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a store that has no host names for its buckets, or lies behind a proxy."""
    own = {"s3": {"addressing_style": "path"}, "proxies": {"http": "http://proxy:1"}, "read_timeout": 300}
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": own, "key": "theirs", "profile": "team"})
    store = SharedStorage("s3://bucket/lea")._store
    assert store.config_kwargs == {**shared.S3_CONFIG, **own, "connector_args": ANY}
    assert store.key == "theirs"
    assert store.session.profile == "team"


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("file://nfs/lea", r"by its whole path, after three slashes \(file:///nfs/lea\), got 'file://nfs/lea'"),
        ("local://nfs/lea", r"after three slashes \(local:///nfs/lea\)"),
        ("simplecache::file://nfs/lea", r"after three slashes \(file:///nfs/lea\)"),
        ("sftp://me@host/lea", "in one step, which sftp:// does not; use s3://, gs://, abfs:// or file://"),
    ],
)
def test_a_place_that_would_be_another_is_refused(url: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_STORAGE", url)
    with pytest.raises(UserError, match=line):
        shared_storage()
