"""A name that is not there costs few look-ups; what the listing of its folder rules out is nothing that is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from components.images.decoding import ImageError
from components.images.listing import Listings, listing
from components.images.store import ImageStore
from tests.raw import write_folder

FILES: dict[str, bytes] = dict.fromkeys(("a/1.jpg", "a/2.png", "菜/1.jpg", "Käse1.jpg"), b"one")


@pytest.fixture
def looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the test's own that are looked up; other threads of the process look up theirs."""
    paths, real = list[str](), os.lstat

    def lstat(path: str, **settings: int) -> os.stat_result:
        if os.fsdecode(path).startswith(str(tmp_path)):
            paths.append(path)
        return real(path, **settings)

    monkeypatch.setattr(os, "lstat", lstat)
    return paths


@pytest.mark.parametrize("name", ["1.jpg", "a/7.jpg", "none/7.jpg", "菜/7.jpg", "無/7.jpg", "Käse7.jpg", "a/Käse7.jpg"])
def test_missing_name_is_looked_up_under_what_names_there_are_like(tmp_path: Path, looked_up: list[str], name: str):
    write_folder(tmp_path / "images", FILES)
    store = ImageStore.open(tmp_path, "images", 1000)
    looked_up.clear()
    with pytest.raises(ImageError, match="image_missing"):
        store.find(name)
    assert len(looked_up) <= 3


def test_missing_name_is_looked_up_under_old_encodings_where_there_are_such_names(tmp_path: Path, looked_up: list[str]):
    write_folder(tmp_path / "images", {os.fsdecode("čaj.jpg".encode("cp852")): b"one"})
    store = ImageStore.open(tmp_path, "images", 1000)
    looked_up.clear()
    with pytest.raises(ImageError, match="image_missing"):
        store.find("káva.jpg")
    assert len(looked_up) > 3
    assert store.read("čaj.jpg") == (b"one", False)
    assert store.read("čaj.png") == (b"one", True)


def test_folder_that_cannot_be_listed_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: bytes) -> None:
        raise PermissionError(path)

    write_folder(tmp_path / "images", {"a/1.tif": b"one"})
    store = ImageStore.open(tmp_path, "images", 1000)
    monkeypatch.setattr(os, "scandir", refuse)
    assert store.read("a/1.jpg") == (b"one", True)


def test_folders_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path, {"a/1.jpg": b"one"})
    listings = Listings(tmp_path)
    first = listings.of(b"a")
    monkeypatch.delattr(os, "scandir")
    assert listings.of(b"a") is first


def test_listing_holds_what_names_are_like():
    names = listing([b"1.jpg", b"2.JPG", b"3.txt", "é.png".encode()])
    assert {".jpg", ".JPG", ".png"} == names.endings - {""}
    assert (names.beyond_ascii, names.old_encodings, names.backslashes) == (True, False, False)
    assert listing(["é.png".encode("cp1252"), b"a\\b"]).may_hold("é\\.png".encode("cp1252"))
    assert not listing([]).may_hold(b"1.jpg")
