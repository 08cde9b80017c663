"""Folders in a storage: whole or absent, each file once, and never other bytes than were put there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.callbacks import Callback

from components import known_digests, snapshots
from components import shared_storage as shared
from components.errors import UserError
from components.shared_storage import SharedStorage, StorageError, shared_storage
from components.snapshots import Digests, collect, fetch_folder, publish, put_folder, remove_run, run_listing


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedStorage:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "node"))
    monkeypatch.setattr(shared, "PAUSES_S", ())
    return SharedStorage(f"file://{tmp_path}/store")


def written(folder: Path, **files: str) -> dict[str, Path]:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return {name.replace("__", "/"): folder / name.replace("__", "/") for name in files}


def state(folder: Path) -> Iterator[str]:
    yield from (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_folder_is_fetched_as_it_was_put_and_only_once(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = written(tmp_path / "base", config="c", weights__one="1", weights__two="2")
    name = put_folder(storage, files, Digests())
    folder = fetch_folder(storage, name)
    assert {each: (folder / each).read_text() for each in files} == {
        "config": "c",
        "weights/one": "1",
        "weights/two": "2",
    }
    got: list[str] = []
    monkeypatch.setattr(SharedStorage, "get", lambda self, name, file: got.append(name))
    assert fetch_folder(storage, name) == folder
    assert not got


def test_what_two_folders_share_is_sent_and_fetched_once(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = written(tmp_path / "base", weights="big")
    first = put_folder(storage, {**base, **written(tmp_path / "a", splits="a")}, Digests())
    fetch_folder(storage, first)
    sent: list[Path] = []
    put, got, get = SharedStorage.put, [], SharedStorage.get
    monkeypatch.setattr(SharedStorage, "put", lambda self, name, file, *_: (sent.append(file), put(self, name, file)))
    monkeypatch.setattr(SharedStorage, "get", lambda self, name, file: (got.append(name), get(self, name, file)))
    second = put_folder(storage, {**base, **written(tmp_path / "b", splits="b")}, Digests())
    fetch_folder(storage, second)
    assert [file.name for file in sent] == ["splits"]
    assert len(got) == 1


@pytest.mark.parametrize("memory", [False, True])
def test_another_file_of_the_same_size_and_date_is_another_file(
    memory: bool, storage: SharedStorage, tmp_path: Path
) -> None:
    """`tar x`, `rsync -t` and image layers put a new base there with the date of the old one."""
    file = tmp_path / "base" / "weights"
    digests = Digests(tmp_path / "stored-files.json" if memory else None)
    names = []
    for text in ("old base", "new base"):
        written(file.parent, weights=text)
        os.utime(file, (315532800, 315532800))
        names.append(put_folder(storage, {"weights": file}, digests))
        digests.keep()
        digests = Digests(tmp_path / "stored-files.json") if memory else digests
    assert (fetch_folder(storage, names[1]) / "weights").read_text() == "new base"


def test_what_is_remembered_is_not_read_again(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the cache of a node too, where each folder that shares a file is one more link to it."""
    base = written(tmp_path / "base", weights="big")
    names = [put_folder(storage, {**base, **written(tmp_path / t, splits=t)}, Digests()) for t in ("a", "b", "c")]
    read: list[str] = []
    whole = known_digests.file_digest
    monkeypatch.setattr(known_digests, "file_digest", lambda path: (read.append(path.name), whole(path))[1])
    for name in names * 2:
        fetch_folder(storage, name)
    assert not read  # all of it was compared when it arrived


def test_a_file_system_that_numbers_its_files_anew_gets_no_other_files_digests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSE: inodes count from 1 in the order in which files are looked at, and times are those of the upload."""
    files, numbers, look = written(tmp_path, one="A" * 9, two="B" * 9), {}, Path.stat

    def stat(path: Path, **how: bool) -> os.stat_result:
        found = look(path, **how)
        if path not in files.values():
            return found
        number = numbers.setdefault(path, len(numbers) + 1)
        times = {"st_atime_ns": 0, "st_mtime_ns": 10**18, "st_ctime_ns": 10**18}
        return os.stat_result([found.st_mode, number, 77, *found[3:7], 10**9, 10**9, 10**9], times)

    monkeypatch.setattr(Path, "stat", stat)
    digests = Digests(tmp_path / "memory.json")
    before = {name: digests.of(files[name]) for name in ("one", "two")}
    digests.keep()
    numbers.clear()
    digests = Digests(tmp_path / "memory.json")
    assert {name: digests.of(files[name]) for name in ("two", "one")} == before


def test_another_link_to_a_changed_file_is_read(tmp_path: Path) -> None:
    digests, files = Digests(), written(tmp_path, file="right", other="other")
    right = digests.of(files["file"])
    with digests.linking({tmp_path / "link": files["file"]}):
        files["file"].write_text("wrong")
        os.link(files["file"], tmp_path / "link")
    assert digests.of(tmp_path / "link") == digests.of(files["file"]) != right


@pytest.mark.parametrize("memory", ["[]", "null", "{", '{"a": null}', "[" * 100_000])
def test_a_memory_that_is_none_is_made_again(memory: str, tmp_path: Path) -> None:
    written(tmp_path, memory=memory, file="a", gone="b")
    digests = Digests(tmp_path / "memory")
    for name in ("file", "gone"):
        digests.of(tmp_path / name)
    digests.keep()
    (tmp_path / "gone").unlink()
    again = Digests(tmp_path / "memory")
    assert again.knows(tmp_path / "file")
    again.keep()
    assert list(json.loads((tmp_path / "memory").read_text())) == [str(tmp_path / "file")]


def test_what_is_read_and_sent_is_shown_by_bytes(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("components.progress.MB", 1)
    monkeypatch.setattr("components.progress.LINE_EVERY_S", 0.0)
    digests, files = Digests(), written(tmp_path / "base", one="1" * 10, two="2" * 30)
    put_folder(storage, files, digests)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("read for the storage, MB: 40/40")]
    assert [line for line in lines if line.startswith("sent to the storage, MB: 40/40")]
    assert lines[-1].startswith("sent to the storage, MB: 40 done in")
    put_folder(storage, files, digests)
    assert not capsys.readouterr().err


def test_a_store_that_says_how_far_a_file_is_is_listened_to(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put_file(file: str, path: str, callback: Callback) -> None:
        for _ in range(2):
            callback.relative_update(5)

    monkeypatch.setattr(storage._store, "put_file", put_file)
    monkeypatch.setattr(storage._store, "mv", lambda *_: None)
    sent: list[int] = []
    storage.put("a", tmp_path, sent.append)
    assert sent == [5, 10]


def test_a_damaged_file_is_not_used(storage: SharedStorage, tmp_path: Path) -> None:
    name = put_folder(storage, written(tmp_path / "base", weights="right"), Digests())
    (stored,) = (tmp_path / "store" / "files").iterdir()
    stored.write_text("wrong")
    with pytest.raises(UserError, match="is damaged: it does not match its digest"):
        fetch_folder(storage, name)


@pytest.mark.parametrize(
    "listing",
    [
        {"a/../../victim": "0" * 64},
        {"/tmp/victim": "0" * 64},
        {"a\\b": "0" * 64},
        {"a\0": "0" * 64},
        {"weights": "../../victim"},
        {"weights": 1},
        ["weights"],
    ],
)
def test_a_listing_that_names_what_lies_elsewhere_is_refused(
    listing: object, storage: SharedStorage, tmp_path: Path
) -> None:
    storage.write("runs/run/listing.json", json.dumps(listing).encode())
    with pytest.raises(StorageError, match=r"runs/run/listing.json is damaged: it is no listing of files; remove it"):
        collect(storage, "run", tmp_path / "a" / "b", state, Digests())


def test_files_that_the_store_let_expire_are_sent_again(storage: SharedStorage, tmp_path: Path) -> None:
    files = written(tmp_path / "base", weights="w")
    name = put_folder(storage, files, Digests())
    storage.remove("files")
    with pytest.raises(StorageError, match=r"lacks files of folder .* run the command again"):
        fetch_folder(storage, name)
    assert put_folder(storage, files, Digests()) == name
    assert (fetch_folder(storage, name) / "weights").read_text() == "w"


def test_a_file_that_changed_in_the_cache_is_fetched_again(storage: SharedStorage, tmp_path: Path) -> None:
    name = put_folder(storage, written(tmp_path / "base", weights="right"), Digests())
    (fetch_folder(storage, name) / "weights").write_text("wrong!")
    assert (fetch_folder(storage, name) / "weights").read_text() == "right"


def test_a_run_is_collected_in_the_last_state_that_was_published_whole(
    storage: SharedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, here = tmp_path / "worker", tmp_path / "driver"
    written(there, log="one", checkpoints__step_1__weights="1", checkpoints__step_1__state="{}")
    publish(storage, "run", there, state, Digests())
    written(there, log="one two", checkpoints__step_2__weights="2")
    put, count = SharedStorage.put, 0

    def killed(self: SharedStorage, name: str, file: Path, *_: object) -> None:
        nonlocal count
        count += 1
        if count == 2:
            raise KeyboardInterrupt
        put(self, name, file)

    monkeypatch.setattr(SharedStorage, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        publish(storage, "run", there, state, Digests())
    monkeypatch.setattr(SharedStorage, "put", put)
    collect(storage, "run", here, state, Digests())
    assert (here / "log").read_text() == "one"
    assert list(state(here)) == ["checkpoints/step_1/state", "checkpoints/step_1/weights", "log"]
    publish(storage, "run", there, state, Digests())
    collect(storage, "run", here, state, Digests())
    assert (here / "log").read_text() == "one two"


def test_what_a_run_does_not_hold_any_more_goes_everywhere(storage: SharedStorage, tmp_path: Path) -> None:
    there, here = tmp_path / "worker", tmp_path / "driver"
    written(there, log="1", checkpoints__step_1__weights="1")
    for step in (2, 3, 4, 5):
        publish(storage, "run", there, state, Digests())
        collect(storage, "run", here, state, Digests())
        snapshots.remove_folder(there / "checkpoints" / f"step_{step - 1}")
        written(there, log=str(step), **{f"checkpoints__step_{step}__weights": f"weights {step}"})
    publish(storage, "run", there, state, Digests())
    collect(storage, "run", here, state, Digests())
    assert [path.name for path in (here / "checkpoints").iterdir()] == ["step_5"]
    kept = list((tmp_path / "store" / "runs" / "run" / "files").iterdir())
    assert len(kept) <= 4  # the state, and the one before for a reader that is at it
    remove_run(storage, "run")
    assert run_listing(storage, "run") is None


def test_a_run_that_is_not_there_is_no_empty_run(storage: SharedStorage, tmp_path: Path) -> None:
    here = tmp_path / "driver"
    written(here, log="1", checkpoints__step_1__weights="1")
    assert collect(storage, "run", here, state, Digests()) is None
    assert list(state(here)) == ["checkpoints/step_1/weights", "log"]
    (tmp_path / "worker").mkdir()
    publish(storage, "run", tmp_path / "worker", state, Digests())
    assert collect(storage, "run", here, state, Digests()) == {}
    assert not list(state(here))


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("bucket/lea", "LEA_STORAGE must be a URL as s3://bucket/lea or file:///nfs/lea, got 'bucket/lea'"),
        ("s3://", "LEA_STORAGE must be a URL"),
        ("sftp://me:secret@host/lea", "LEA_STORAGE must hold no password"),
        ("hdfs://namenode/lea", "LEA_STORAGE must be a store that replaces an object in one step, which hdfs:// does"),
        ("simplecache::smb://host/share", "in one step, which smb:// does not; use s3://"),
    ],
)
def test_a_storage_that_is_none_is_refused(url: str, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_STORAGE", url)
    with pytest.raises(UserError, match=line) as caught:
        shared_storage()
    assert "secret" not in str(caught.value)


def test_an_unknown_kind_of_storage_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="LEA_STORAGE=nowhere://x cannot be used"):
        SharedStorage("nowhere://x").read("a")


def test_no_credential_of_the_driver_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:secret@minio:9000")
    monkeypatch.setenv("AWS_REGION", "eu-1")
    monkeypatch.setenv("LEA_STORAGE", "s3://bucket/lea")
    sent = shared.addresses()
    assert "secret" not in str(sent)
    assert sent["LEA_STORAGE"] == "s3://bucket/lea"
    assert sent["AWS_REGION"] == "eu-1"


def test_a_bucket_that_is_missing_is_named(storage: SharedStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str, content: bytes) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr(storage._store, "pipe_file", missing)
    with pytest.raises(UserError, match="store does not exist: The specified bucket does not exist"):
        storage.write("a", b"b")
