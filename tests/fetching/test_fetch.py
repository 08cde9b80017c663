"""Names of the catalogue: what they need, from a hub and a mirror on loopback."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import time
import zipfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.fetching import fetch
from components.fetching.catalogue import Entry, File, find, load
from components.fetching.download import Limits
from components.fetching.fetch import carry_out, errand
from components.params import profiles
from tests.fetching.server import FileServer, as_hub, reply

NAMES = {
    *("llava_558k", "mix665k", "coco", "gqa", "textvqa", "visual_genome", "ocr_vqa", "scienceqa", "flickr30k"),
    *("clip", "vicuna-7b", "vicuna-13b", "llava-1.5-7b", "llava-1.5-13b"),
}
TEXTS = {"about": "a set", "licence": "CC BY 4.0", "from": "its page"}


def limits() -> Limits:
    return Limits(time.monotonic() + 30, silent_s=5, slowest=0, attempts=2, pause_s=0)


def entry(**values: Any) -> Entry:
    return Entry.model_validate({**TEXTS, "folder": "data/raw/mine", **values})


def of_files(server: FileServer, **files: bytes) -> Entry:
    """An entry whose files the server has; nothing is known of them before."""
    listed = []
    for name, data in files.items():
        server.files[f"/{name}"] = data
        listed.append({"path": f"parts/{name}", "url": f"{server.url}/{name}"})
    return entry(files=listed)


def test_catalogue_holds_what_the_profiles_name() -> None:
    catalogue = load()
    assert set(catalogue) == NAMES
    held = {f"{one.folder}/{file.path}" for one in catalogue.values() for file in one.files}
    held |= {f"{one.folder}/{name}" for one in catalogue.values() if one.hub for name in one.hub.files}
    wanted = set()
    for name in ("llava-1.5-7b-general", "llava-1.5-7b-scienceqa"):
        for source in profiles.load(name).data.sources.values():
            images = source.images.values() if isinstance(source.images, dict) else [source.images]
            wanted |= {f"{source.path}/{path}" for path in (*images, source.annotations)}
    assert wanted - held == {"data/raw/mix665k/ocr_vqa/images"}  # by hand
    flickr30k = profiles.load("llava-1.5-7b-flickr30k").data.sources["flickr30k"]
    assert catalogue["flickr30k"].unpack
    assert flickr30k.annotations == catalogue["flickr30k"].unpack.member
    assert str(flickr30k.images) in (catalogue["flickr30k"].by_hand or "")


def test_unknown_name_is_refused_with_a_near_one() -> None:
    with pytest.raises(UserError, match="no data or weights are called 'vicuna7b'; did you mean vicuna-7b"):
        find("vicuna7b", load())


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../x", "a//../x", ".", "", "a\\b", "./a"])
def test_a_path_stays_in_its_folder(path: str) -> None:
    with pytest.raises(ValueError, match="must be a path within the folder"):
        File(path=path, url="https://a.org/x")


def test_files_are_fetched_noted_and_not_fetched_again(server: FileServer, tmp_path: Path) -> None:
    one = of_files(server, a=b"first", b=b"second")
    new = carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert [path.read_bytes() for path in new] == [b"first", b"second"]
    noted = json.loads((tmp_path / "data/raw/mine.sources.json").read_text())
    assert noted["parts/a"]["sha256"] == hashlib.sha256(b"first").hexdigest()
    assert noted["parts/a"]["licence"] == "CC BY 4.0"
    assert noted["parts/a"]["digest_known_before"] is False
    requests = len(server.seen)
    again = errand("mine", one, tmp_path)
    assert again.missing == ()
    assert carry_out(again, limits(), root=tmp_path) == []
    assert len(server.seen) == requests


def test_a_file_whose_note_was_not_written_is_noted_later(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the move into place and the note."""
    one = of_files(server, a=b"first")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert not (tmp_path / "data/raw/mine.sources.json").exists()
    server.act = lambda handler, number: reply(handler, 503, b"", {})
    assert carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "data/raw/mine").rglob("*")) == ["a", "parts"]
    noted = json.loads((tmp_path / "data/raw/mine.sources.json").read_text())
    assert noted["parts/a"]["sha256"] == hashlib.sha256(b"first").hexdigest()
    assert noted["parts/a"]["digest_known_before"] is False


def by_hand(root: Path, content: bytes) -> Path:
    """A file that something else has put where `of_files` wants it."""
    path = root / "data/raw/mine/parts/a"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def chunked(handler: Any, number: int) -> bool:
    """A reply that states no size."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"5\r\nfirst\r\n0\r\n\r\n")
    return True


def test_half_a_file_that_something_else_has_left_is_not_taken(server: FileServer, tmp_path: Path) -> None:
    one = of_files(server, a=b"first")
    by_hand(tmp_path, b"fir")
    with pytest.raises(UserError, match=r"parts/a has 3 bytes, 5 are published; move it away"):
        carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert not (tmp_path / "data/raw/mine.sources.json").exists()


@pytest.mark.parametrize("act", [chunked, lambda handler, number: False], ids=["no size", "the same size"])
def test_the_digest_of_a_file_that_was_not_fetched_is_demanded_of_nobody(
    act: Any, server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = of_files(server, a=b"first")
    path = by_hand(tmp_path, b"fir\0\0")
    server.act = act
    assert carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path) == []
    assert f"{path} was not fetched by this command" in capsys.readouterr().err
    assert not (tmp_path / "data/raw/mine.sources.json").exists()


def test_what_took_the_place_of_a_fetched_file_is_not_noted_for_it(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = of_files(server, a=b"first")
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_note", lambda *_: None)  # killed before it
        (path,) = carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    path.write_bytes(b"other")
    carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert not (tmp_path / "data/raw/mine.sources.json").exists()


def test_files_copied_in_by_hand_do_without_a_network(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = of_files(server, a=b"first", b=b"second")
    by_hand(tmp_path, b"first").with_name("b").write_bytes(b"second")
    server.act = lambda handler, number: reply(handler, 503, b"", {})
    assert carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path) == []
    said = capsys.readouterr().err
    assert "parts/a is here, but whether it is whole is not known: http" in said
    assert len(server.seen) == 1  # one silence is enough to wait for


def test_no_other_host_says_the_size_of_a_file_without_a_digest(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = of_files(server, a=b"first")
    by_hand(tmp_path, b"fir")
    other = {"Location": f"{server.url.replace('127.0.0.1', 'localhost')}/a"}
    server.act = lambda handler, number: reply(handler, 302, b"", other) if number == 1 else False
    assert carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path) == []
    assert "redirects to another host" in capsys.readouterr().err
    assert len(server.seen) == 1


def test_another_machine_gets_the_noted_bytes_or_none(server: FileServer, tmp_path: Path) -> None:
    one = of_files(server, a=b"first")
    (path,) = carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    path.unlink()  # a clone: the note came through git, the data did not
    server.files["/a"] = b"fists"
    with pytest.raises(UserError, match=r"its SHA-256 is .* is expected; nothing is kept"):
        carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)


def test_a_file_of_ones_own_in_its_place_is_not_taken(server: FileServer, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"first").hexdigest()
    one = entry(files=[{"path": "a", "url": f"{server.url}/a", "sha256": digest}])
    (tmp_path / "data/raw/mine").mkdir(parents=True)
    (tmp_path / "data/raw/mine/a").write_bytes(b"other")
    with pytest.raises(UserError, match=r"mine/a is not the file that is published .*; move it away"):
        carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)


def test_a_mirror_holds_the_same_names(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEA_MIRROR", f"{server.url}/lea/")
    server.files["/lea/mine/a.zip"] = b"first"
    one = entry(files=[{"path": "a.zip", "url": "https://nowhere.invalid/a.zip"}])
    (path,) = carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert path.read_bytes() == b"first"
    path.unlink()
    monkeypatch.setenv("LEA_MIRROR", server.url.replace("//", "//ada:opensesame@") + "/lea")
    carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert server.seen[-1]["authorization"].startswith("Basic ")
    assert "opensesame" not in (tmp_path / "data/raw/mine.sources.json").read_text()
    monkeypatch.setenv("LEA_MIRROR", "/mnt/mirror")
    with pytest.raises(UserError, match="LEA_MIRROR=/mnt/mirror: must begin with http"):
        errand("other", one, tmp_path / "other")


def test_a_disk_that_is_too_small_is_said_before(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(10**9))
    one = entry(files=[{"path": "a", "url": f"{server.url}/a", "bytes": 19 * 10**9}])
    with pytest.raises(UserError, match=r"mine needs 19\.0 GB more on this disk, 1\.0 GB are free"):
        carry_out(errand("mine", one, tmp_path), limits(), root=tmp_path)
    assert server.seen == []


def test_one_member_is_unpacked(server: FileServer, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("dataset.json", "{}")
    server.files["/a.zip"] = packed.getvalue()
    files = [{"path": "a.zip", "url": f"{server.url}/a.zip"}]
    good = entry(files=files, unpack={"file": "a.zip", "member": "dataset.json"})
    carry_out(errand("mine", good, tmp_path), limits(), root=tmp_path)
    assert (tmp_path / "data/raw/mine/dataset.json").read_text() == "{}"
    bad = entry(files=files, unpack={"file": "a.zip", "member": "other.json"})
    with pytest.raises(UserError, match=r"a\.zip holds no readable other\.json"):
        carry_out(errand("mine", bad, tmp_path), limits(), root=tmp_path)
    (tmp_path / "data/raw/mine/dataset.json").write_text("mine, edited")
    with pytest.raises(UserError, match=r"dataset\.json is not what .*a\.zip holds; move it away"):
        carry_out(errand("mine", good, tmp_path), limits(), root=tmp_path)
    assert (tmp_path / "data/raw/mine/dataset.json").read_text() == "mine, edited"


def test_passwords_of_netrc_go_nowhere(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("default login ada password secret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.files["/a"] = b"a"
    carry_out(errand("mine", entry(files=[{"path": "a", "url": f"{server.url}/a"}]), tmp_path), limits(), root=tmp_path)
    assert all("authorization" not in request for request in server.seen)


@pytest.fixture
def hub(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "x" * 30)
    return server


MODEL = {"repository": "maker/tiny", "kind": "model"}


def test_a_model_comes_with_the_hubs_digests(hub: FileServer, tmp_path: Path) -> None:
    files = {
        "model.safetensors": b"weights" * 100,
        "pytorch_model.bin": b"pickle",
        "config.json": b"{}",
        "a.msgpack": b"-",
    }
    as_hub(hub, "maker/tiny", files, frozenset({"model.safetensors"}))
    task = errand("tiny", entry(hub=MODEL), tmp_path)
    assert {one.path.name for one in task.missing} == {"model.safetensors", "config.json"}  # no pickle beside them
    assert all(one.digest_known for one in task.missing)
    carry_out(task, limits(), root=tmp_path)
    assert (tmp_path / "data/raw/mine/model.safetensors").read_bytes() == b"weights" * 100
    assert carry_out(errand("tiny", entry(hub=MODEL), tmp_path), limits(), root=tmp_path) == []


def test_pickled_weights_come_where_there_are_no_others(hub: FileServer, tmp_path: Path) -> None:
    as_hub(hub, "maker/tiny", {"pytorch_model-00001-of-00001.bin": b"pickle", "config.json": b"{}"})
    names = {one.path.name for one in errand("tiny", entry(hub=MODEL), tmp_path).missing}
    assert names == {"pytorch_model-00001-of-00001.bin", "config.json"}


def test_a_hub_that_sends_other_bytes_is_noticed(hub: FileServer, tmp_path: Path) -> None:
    as_hub(hub, "maker/tiny", {"config.json": b"{}"})
    hub.files[f"/maker/tiny/resolve/{'c' * 40}/config.json"] = b"[]"
    with pytest.raises(UserError, match=r"its git blob is .* is expected"):
        carry_out(errand("tiny", entry(hub=MODEL), tmp_path), limits(), root=tmp_path)


@pytest.mark.parametrize("name", ["../../.bashrc.json", "/etc/x.json"])
def test_a_hub_cannot_name_files_elsewhere(hub: FileServer, tmp_path: Path, name: str) -> None:
    as_hub(hub, "maker/tiny", {name: b"{}"})
    with pytest.raises(UserError, match=r"lists a bad name: .* must be a path within the folder"):
        errand("tiny", entry(hub=MODEL), tmp_path)


def test_what_the_hub_lacks_is_one_line(hub: FileServer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not list maker/tiny .*; name a mirror: HF_ENDPOINT") as caught:
        errand("tiny", entry(hub=MODEL), tmp_path)
    assert "\n" not in str(caught.value)
    as_hub(hub, "maker/tiny", {"config.json": b"{}"})
    hub.files["/api/datasets/maker/tiny"] = hub.files["/api/models/maker/tiny"]
    with pytest.raises(UserError, match=r"maker/tiny has no images\.zip"):
        errand("tiny", entry(hub={**MODEL, "kind": "dataset", "files": ["images.zip"]}), tmp_path)


def test_a_hub_that_is_away_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound and not listening: connections to it are refused
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(UserError, match=f"^{address} cannot be reached .* mirror: HF_ENDPOINT=https://"):
            errand("tiny", entry(hub=MODEL), tmp_path)
