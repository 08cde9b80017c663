"""Names as Windows, macOS and old archivers write them: found all the same, or what differs is named."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest

from components.errors import UserError
from components.images.decoding import ImageError
from components.images.store import ImageStore
from tests.raw import write_folder, write_tar, write_zip

KINDS = pytest.mark.parametrize("kind", ["folder", "zip", "tar"])
COMPOSED = unicodedata.normalize("NFC", "crème brûlée/ö.jpg")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)


def make(kind: str, root: Path, files: dict[str, bytes]) -> ImageStore:
    name = {"folder": "images", "zip": "images.zip", "tar": "images.tar"}[kind]
    {"folder": write_folder, "zip": write_zip, "tar": write_tar}[kind](root / name, files)
    return ImageStore.open(root, name, 1000)


def missing(store: ImageStore, name: str) -> str:
    with pytest.raises(ImageError) as caught:
        store.read(name)
    assert caught.value.reason == "image_missing"
    return caught.value.detail


@KINDS
@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
def test_forms_of_unicode_do_not_matter(tmp_path, kind: str, stored: str, asked: str):
    assert make(kind, tmp_path, {stored: b"one"}).read(asked)[0] == b"one"


@KINDS
def test_endings_in_capitals_do_not_matter(tmp_path, kind: str):
    store = make(kind, tmp_path, {"a/1.JPG": b"one", "2.jpeg": b"two"})
    assert store.read("a/1.jpg") == (b"one", True)
    assert store.read("2.JPG") == (b"two", True)


@KINDS
@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("1.Jpg", "1.jpg"),
        ("1.TIF", "1.tiff"),
        ("1.tiff", "1.tif"),
        ("1.BMP", "1.bmp"),
        ("1.jpg", "1.avif"),
        ("1.avif", "1"),
        ("1.jp2", "1.png"),
        ("1.png", "1.HEIC"),
        ("plate.1.jpg", "plate.1"),
        ("v1.2/plate.webp", "v1.2/plate"),
        (".jpg.png", ".jpg"),
        ("1.jpg", "1.jpg_large"),
        ("1.jpg", "1.image"),
        ("a/000.jpg", "a/000.npy"),
        ("000.jpg", "000.mp4"),
        ("1.2.JPG", "1.2.bin"),
        ("St.Petersburg.jpg", "St.Petersburg"),
    ],
)
def test_every_ending_that_is_read_may_stand_for_another(tmp_path, kind: str, stored: str, asked: str):
    assert make(kind, tmp_path, {stored: b"one"}).read(asked) == (b"one", True)


@KINDS
def test_number_after_a_dot_is_no_ending(tmp_path, kind: str):
    """plate.1 is not plate.jpg, whether or not there is a plate.1.jpg."""
    store = make(kind, tmp_path, {"plate.jpg": b"none", "plate.1.jpg": b"one"})
    assert store.read("plate.1") == (b"one", True)
    assert missing(store, "plate.2") == "plate.2"
    assert missing(store, "a.v2/plate") == "a.v2/plate"


@KINDS
def test_name_as_it_is_written_wins(tmp_path, kind: str):
    store = make(kind, tmp_path, {"1": b"bare", "1.jpg": b"jpg", "1.JPG": b"capitals", "1.tif": b"tif"})
    assert [store.read(name) for name in ("1", "1.tif", "1.JPG")] == [
        (b"bare", False),
        (b"tif", False),
        (b"capitals", False),
    ]
    assert store.read("1.png") == (b"jpg", True)


@KINDS
def test_name_that_differs_in_capitals_is_named(tmp_path, kind: str):
    store = make(kind, tmp_path, {"a/Dish.jpg": b"one", "b.jpg": b"two"})
    assert missing(store, "a/dish.jpg") == "a/dish.jpg; a/Dish.jpg differs in capitals"
    assert missing(store, "c.jpg") == "c.jpg"


@KINDS
def test_name_as_a_url_has_it_is_named(tmp_path, kind: str):
    store = make(kind, tmp_path, {"a dish.jpg": b"one", "50%.jpg": b"two"})
    assert missing(store, "a%20dish.jpg") == "a%20dish.jpg; a dish.jpg is there, and the record has it as a URL has it"
    assert store.read("50%.jpg")[0] == b"two"
    assert missing(store, "%2e%2e/x.jpg") == "%2e%2e/x.jpg"


@KINDS
def test_what_lies_there_without_the_first_folders_is_named(tmp_path, kind: str):
    """An absolute path, and a zip of what the folder `images` holds, which the records name too."""
    store = make(kind, tmp_path, {"train/1.jpg": b"one", "2.jpg": b"two"})
    assert missing(store, "images/train/1.jpg") == "images/train/1.jpg; train/1.jpg is there, without images"
    for name, where in (("/home/me/images/2.jpg", "home/me/images"), ("..\\images\\2.jpg", "../images")):
        with pytest.raises(ImageError) as caught:
            store.find(name)
        assert (caught.value.reason, caught.value.detail) == (
            "image_outside_root",
            f"{name}; 2.jpg is there, without {where}",
        )


@KINDS
def test_backslashes_are_separators(tmp_path, kind: str):
    """A zip made on Windows, and a folder into which one was unpacked elsewhere."""
    root, image = tmp_path / "images", "sub\\1.png"
    if kind == "folder":
        root.mkdir()
        (root / image).write_bytes(b"one")
    elif kind == "tar":
        write_tar(tmp_path / "images", {image: b"one"})
    else:
        with zipfile.ZipFile(root, "w") as archive:
            for name, data in (("sub\\", b""), (image, b"one")):
                member = zipfile.ZipInfo("x")
                member.filename = name
                archive.writestr(member, data)
    store = ImageStore.open(tmp_path, "images", 1000)
    assert store.read("sub/1.png")[0] == store.read("sub\\1.png")[0] == b"one"
    assert len(list(store.names())) == 1


COMPANIONS = ["__MACOSX/._top", "__MACOSX/top/._1.jpg", ".DS_Store", "top/Thumbs.db", "top/._1.jpg", "top/desktop.ini"]


@KINDS
def test_files_of_the_operating_system_are_no_images(tmp_path, kind: str):
    store = make(kind, tmp_path, {"top/1.jpg": b"one", **dict.fromkeys(COMPANIONS, b"junk")})
    assert list(store.names()) == ["top/1.jpg"]
    if kind != "folder":  # the one top folder may be left out
        assert store.read("1.jpg")[0] == b"one"


OLD_NAMES = [
    ("crème.jpg", "cp437"),
    ("crème.jpg", "cp1252"),
    ("борщ.jpg", "cp866"),
    ("борщ.jpg", "cp1251"),
    ("麻婆豆腐.jpg", "gbk"),
    ("寿司/一.jpg", "cp932"),
    ("ŝ.jpg", "utf-8"),  # what macOS writes without the flag
    ("łódź.jpg", "cp852"),
    ("łódź.jpg", "iso8859-2"),
    ("φώτο.jpg", "cp737"),
    ("çiğ.jpg", "cp857"),
    ("תמונה.jpg", "cp862"),
    ("ภาพ.jpg", "cp874"),
    ("ação.jpg", "cp860"),
    ("žuvis.jpg", "cp775"),
    ("фото.jpg", "cp855"),
    ("café.jpg", "mac-roman"),
]


def zip_without_flag(path: Path, name: str, encoding: str, extra: bytes = b"") -> None:
    """A zip whose one member's name stands in an encoding that the archive does not state."""
    zip_of_bytes(path, {name.encode(encoding): b"one"}, extra)


def zip_of_bytes(path: Path, files: dict[bytes, bytes], extra: bytes = b"") -> None:
    stand_ins = {name: str(number).rjust(len(name), "y") for number, name in enumerate(files)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            member = zipfile.ZipInfo(stand_ins[name])
            member.extra = extra
            archive.writestr(member, data)
    written = path.read_bytes()
    for name, stand_in in stand_ins.items():
        written = written.replace(stand_in.encode(), name)
    path.write_bytes(written)


def test_old_encoding_is_the_one_in_which_the_names_are_words(tmp_path):
    """The bytes of "ć" in cp1250 are those of "Š" in cp852, and of "ç" in cp1252 those of "š" in cp852."""
    names = ["ć.png", "Š.png", "š.png", "ç.png", "łódź.png", "żółw.png"]
    zip_of_bytes(tmp_path / "a.zip", {name.encode("cp852"): name.encode() for name in names})
    store = ImageStore.open(tmp_path, "a.zip", 1000)
    assert [store.read(name)[0].decode() for name in names] == names
    assert len({store.read(listed)[0] for listed in store.names()}) == len(names)


def test_old_name_in_a_tar_of_a_folder_is_read(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", encoding="cp852", format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("./łódź.jpg"))
    assert ImageStore.open(tmp_path, "a.tar", 1000).read("łódź.jpg")[0] == b""


@pytest.mark.parametrize(("name", "encoding"), OLD_NAMES)
def test_old_encodings_of_names_are_read(tmp_path, name: str, encoding: str):
    zip_without_flag(tmp_path / "a.zip", name, encoding)
    with tarfile.open(tmp_path / "a.tar", "w", encoding=encoding, format=tarfile.GNU_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name))
    write_folder(tmp_path / "a", {os.fsdecode(name.encode(encoding)): b"one"})
    for place, data in (("a.zip", b"one"), ("a.tar", b""), ("a", b"one")):
        store = ImageStore.open(tmp_path, place, 1000)
        assert store.read(name)[0] == data
        assert [store.read(listed)[0] for listed in store.names()] == [data]


def test_name_in_utf_8_beside_an_old_one_is_read(tmp_path):
    raw = "ŝ.jpg".encode("iso8859-3")
    field = struct.pack("<BI", 1, zlib.crc32(raw)) + "ŝ.jpg".encode()
    zip_without_flag(tmp_path / "a.zip", "ŝ.jpg", "iso8859-3", struct.pack("<HH", 0x7075, len(field)) + field)
    assert ImageStore.open(tmp_path, "a.zip", 1000).read("ŝ.jpg")[0] == b"one"


@pytest.mark.parametrize("name", ["https://example.org/1.jpg", "s3://bucket/1.jpg", "file:///data/1.jpg"])
def test_url_is_named(tmp_path, name: str):
    with pytest.raises(ImageError) as caught:
        make("folder", tmp_path, {"1.jpg": b"one"}).read(name)
    assert (caught.value.reason, caught.value.detail) == ("image_is_url", name)


@pytest.mark.parametrize(
    ("start", "kind"), [(b"Rar!\x1a\7\1\0", "RAR"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"PAR1", "Parquet")]
)
def test_archive_of_another_kind_is_named(tmp_path, start: bytes, kind: str):
    (tmp_path / "a").write_bytes(start + bytes(2000))
    with pytest.raises(UserError, match=rf"a is {kind}; images are read from a folder, a zip or a plain tar"):
        ImageStore.open(tmp_path, "a", 1000)


@pytest.mark.parametrize("first", ["BZ_images/1.jpg", "Rar!\x1a\7\1/1.jpg", "PK\3\4.jpg"])
def test_tar_is_not_mistaken_by_its_first_name(tmp_path, first: str):
    write_tar(tmp_path / "a.tar", {first: b"one"})
    assert ImageStore.open(tmp_path, "a.tar", 1000).read(first)[0] == b"one"


def test_git_lfs_pointer_in_place_of_an_archive_is_named(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(UserError, match=r"a\.zip is a Git LFS pointer, not the archive itself; run: git lfs pull"):
        ImageStore.open(tmp_path, "a.zip", 1000)


def linked(root: Path, cache: Path, name: str, data: bytes) -> None:
    """What `dvc checkout` leaves where cache.type is symlink."""
    content = cache / "files/md5/ab/cdef"
    content.parent.mkdir(parents=True, exist_ok=True)
    content.write_bytes(data)
    (root / name).symlink_to(content)


@pytest.mark.parametrize("place", [".dvc/cache", "shared/cache", "elsewhere"])
def test_links_into_the_cache_of_dvc_are_followed(tmp_path, monkeypatch, place: str):
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "user"))
    workspace = tmp_path / "workspace"
    write_folder(workspace / "data/images", {"2.png": b"two"})
    write_folder(workspace / ".dvc", {"config": b"[core]\n    analytics = false\n"})
    if place == "shared/cache":
        write_folder(
            workspace / ".dvc",
            {"config.local": b"['remote \"x\"']\n    url = /y\n[cache]\n    dir = ../../shared/cache\n"},
        )
    # a folder's own .dvc may not open another way
    write_folder(workspace / "data/images/.dvc", {"config": f"[cache]\n    dir = {tmp_path / 'elsewhere'}\n".encode()})
    cache = workspace / place if place == ".dvc/cache" else tmp_path / place
    linked(workspace / "data/images", cache, "1.png", b"one")
    (workspace / "data/images/3.png").symlink_to(cache / "none")
    monkeypatch.chdir(workspace / "data")
    store = ImageStore.open(Path(), "images", 1000)
    if place == "elsewhere":
        with pytest.raises(ImageError, match="image_outside_root"):
            store.read("1.png")
        return
    assert store.read("1.png")[0] == b"one"
    with pytest.raises(ImageError, match=r"image_unreadable: 3\.png in DVC's cache: No such file"):
        store.read("3.png")


@pytest.mark.slow
def test_links_that_dvc_makes_are_followed(tmp_path, monkeypatch):
    write_folder(tmp_path / "images", {"1.png": b"one"})
    dvc = [sys.executable, "-m", "dvc"]
    for words in (["init", "--no-scm", "-q"], ["config", "cache.type", "symlink"], ["add", "-q", "images"]):
        subprocess.run([*dvc, *words], cwd=tmp_path, check=True)
    assert (tmp_path / "images/1.png").is_symlink()
    monkeypatch.chdir(tmp_path)
    assert ImageStore.open(tmp_path, "images", 1000).read("1.png")[0] == b"one"
