"""Images out of a folder, a zip, a tar: the same bytes, and nothing from outside."""

from __future__ import annotations

import io
import lzma
import os
import random
import resource
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from components.errors import UserError
from components.images import byte_ranges
from components.images.decoding import ImageError
from components.images.store import ImageStore
from tests.raw import write_folder, write_tar, write_zip

FILES = {"a/1.jpg": b"one", "a/b/2.png": b"two", "ä.gif": b"three"}


def make(kind: str, root: Path, files: dict[str, bytes], max_pixels: int = 1000) -> ImageStore:
    name = {"folder": "images", "zip": "images.zip", "tar": "images.tar"}[kind]
    {"folder": write_folder, "zip": write_zip, "tar": write_tar}[kind](root / name, files)
    return ImageStore.open(root, name, max_pixels)


def reason(store: ImageStore, name: str) -> str:
    with pytest.raises(ImageError) as caught:
        store.read(name)
    return caught.value.reason


KINDS = pytest.mark.parametrize("kind", ["folder", "zip", "tar"])


@KINDS
def test_images_are_read_by_name(tmp_path, kind: str):
    store = make(kind, tmp_path, FILES)
    assert {name: store.read(name)[0] for name in FILES} == FILES
    assert sorted(store.names()) == sorted(FILES)
    assert store.read("./a//1.jpg") == (b"one", False)


@KINDS
def test_image_under_another_ending_is_found_and_said(tmp_path, kind: str):
    store = make(kind, tmp_path, FILES)
    assert store.read("a/b/2.jpg") == (b"two", True)
    assert store.read("ä.jpg") == (b"three", True)


@KINDS
@pytest.mark.parametrize(
    "name", ["../secret.jpg", "a/../../secret.jpg", "/etc/passwd", "C:\\x.jpg", "a\\..\\..\\x", "a\0b"]
)
def test_names_that_leave_the_root_are_refused(tmp_path, kind: str, name: str):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    assert reason(make(kind, tmp_path, FILES), name) == "image_outside_root"


@KINDS
@pytest.mark.parametrize("name", ["", ".", "a", "a/1.jpg/x", "b.jpg", "x" * 300, "\ud800.jpg"])
def test_missing_images_are_named(tmp_path, kind: str, name: str):
    assert reason(make(kind, tmp_path, FILES), name) in ("image_missing", "image_unreadable")


@KINDS
def test_file_beyond_any_allowed_image_is_refused_unread(tmp_path, kind: str):
    assert reason(make(kind, tmp_path, {"a.png": bytes(2 << 20)}, max_pixels=10), "a.png") == "image_too_large"


def test_links_and_pipes_in_a_folder_are_refused(tmp_path):
    store = make("folder", tmp_path, FILES)
    (tmp_path / "outside.jpg").write_bytes(b"secret")
    (tmp_path / "images/link.jpg").symlink_to(tmp_path / "outside.jpg")
    (tmp_path / "images/way").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "images/pipe.jpg")
    assert reason(store, "link.jpg") == "image_outside_root"
    assert reason(store, "way/outside.jpg") == "image_outside_root"
    assert reason(store, "pipe.jpg") == "image_unreadable"


def test_root_may_itself_be_a_link(tmp_path):
    make("folder", tmp_path, FILES)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "images")
    assert ImageStore.open(tmp_path, "elsewhere", 1000).read("a/1.jpg")[0] == b"one"


@pytest.mark.parametrize("type", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_in_a_tar_are_refused(tmp_path, type: bytes):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo("x/link.jpg")
        member.type, member.linkname = type, "/etc/passwd"
        archive.addfile(member)
    store = ImageStore.open(tmp_path, "a.tar", 1000)
    assert reason(store, "x/link.jpg") == "image_outside_root"
    assert list(store.names()) == ["x/link.jpg"]  # so that it is refused by name


def hard_linked(path: Path, *members: tuple[str, str | bytes]) -> ImageStore:
    """A tar of files (name, bytes) and of hard links (name, name of the target)."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.LNKTYPE, content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return ImageStore.open(path.parent, path.name, 1000)


def test_hard_link_in_a_tar_is_the_member_before_it(tmp_path):
    """As unpacking has it: a file written later under the target's name does not change the link."""
    store = hard_linked(
        tmp_path / "a.tar",
        *(("./x/1.jpg", b"one"), ("x/2.jpg", "x/1.jpg"), ("x/ä.jpg", "./x/2.jpg"), ("x/1.jpg", b"new")),
    )
    assert [store.read(name)[0] for name in ("2.jpg", "x/ä.jpg", "x/1.jpg")] == [b"one", b"one", b"new"]


@pytest.mark.parametrize("target", ["later.jpg", "link.jpg", "../secret.jpg", "/etc/passwd", "", ".", "soft.jpg"])
def test_hard_link_to_no_earlier_member_is_refused(tmp_path, target: str):
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    store = hard_linked(tmp_path / "a.tar", ("link.jpg", target), ("later.jpg", b"one"))
    assert reason(store, "link.jpg") == "image_outside_root"


def test_long_chain_of_hard_links_costs_no_time(tmp_path):
    links = [(f"{number}.jpg", f"{number - 1}.jpg") for number in range(1, 20)]
    store = hard_linked(tmp_path / "a.tar", ("0.jpg", b"one"), *links)
    assert store.read("3.jpg")[0] == b"one"
    assert reason(store, "19.jpg") == "image_outside_root"


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("data", [b"", b"one", b"one" * 1000, random.Random(1).randbytes(9000)])
def test_every_method_of_packing_of_pythons_zipfile_is_read(tmp_path, method: int, data: bytes):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("1.jpg", data)
    assert ImageStore.open(tmp_path, "a.zip", 1000).read("1.jpg")[0] == data


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_member_that_unpacks_to_more_than_it_says_is_corrupt_and_takes_no_memory(tmp_path, method: int):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("1.jpg", bytes(50_000_000))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\1\2") + 24, 1000)  # its size in the central directory
    (tmp_path / "a.zip").write_bytes(data)
    store = ImageStore.open(tmp_path, "a.zip", 1000)
    tracemalloc.start()
    try:
        assert reason(store, "1.jpg") == "image_corrupt"
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_dictionary_of_a_packed_member_is_no_larger_than_the_member():
    header = struct.pack("<HHBI", 0, 5, 93, 2**32 - 1)  # LZMA, which would take 4 GB
    packed = lzma.compress(b"one", lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "lc": 3, "lp": 0, "pb": 2}])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, before[1]))
    try:
        assert byte_ranges._unpacked(header + packed, zipfile.ZIP_LZMA, 3) == b"one"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_method_of_packing_that_is_not_read_is_named(tmp_path):
    """Deflate64 is what Windows writes where a zip has more than 2 GB."""
    make("zip", tmp_path, {"1.jpg": b"one"})
    data = bytearray((tmp_path / "images.zip").read_bytes())
    struct.pack_into("<H", data, data.index(b"PK\1\2") + 10, 9)
    (tmp_path / "images.zip").write_bytes(data)
    store = ImageStore.open(tmp_path, "images.zip", 1000)
    with pytest.raises(ImageError, match="image_unreadable: the zip is packed by Deflate64, which is not read"):
        store.read("1.jpg")


def test_links_in_a_zip_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("link.jpg")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    assert reason(ImageStore.open(tmp_path, "a.zip", 1000), "link.jpg") == "image_outside_root"


def test_encrypted_member_of_a_zip_is_named(tmp_path):
    make("zip", tmp_path, {"1.jpg": b"one"})
    data = bytearray((tmp_path / "images.zip").read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1  # the flag in its entry of the central directory
    (tmp_path / "images.zip").write_bytes(data)
    assert reason(ImageStore.open(tmp_path, "images.zip", 1000), "1.jpg") == "image_unreadable"


def test_member_of_a_zip_that_claims_more_than_any_file_holds_is_too_large(tmp_path):
    make("zip", tmp_path, {"1.jpg": b"one"})
    data = bytearray((tmp_path / "images.zip").read_bytes())
    entry, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    extra = struct.pack("<HHQ", 1, 8, 2**64 - 1)  # zip64's field: the size
    data[end:end] = extra
    struct.pack_into("<I", data, entry + 24, 2**32 - 1)  # which says: look there
    struct.pack_into("<H", data, entry + 30, len(extra))
    struct.pack_into("<I", data, end + len(extra) + 12, end - entry + len(extra))
    (tmp_path / "images.zip").write_bytes(data)
    assert reason(ImageStore.open(tmp_path, "images.zip", 1000), "1.jpg") == "image_too_large"


def test_list_of_members_that_cannot_be_written_is_a_users_mistake(tmp_path):
    write_tar(tmp_path / "a.tar", {f"{'x' * 90}{number}": b"" for number in range(30_000)})
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, usual[1]))
    try:
        with pytest.raises(UserError, match=r"a\.tar cannot be written .* SQLITE_TMPDIR"):
            ImageStore.open(tmp_path, "a.tar", 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_top_folder_of_an_archive_may_be_left_out(tmp_path, kind: str):
    store = make(kind, tmp_path, {"flickr30k-images/1.jpg": b"one", "flickr30k-images/2.jpg": b"two"})
    assert store.read("2.jpg")[0] == b"two"
    assert store.read("flickr30k-images/2.jpg")[0] == b"two"


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_text_beside_the_top_folder_does_not_stop_it_from_being_left_out(tmp_path, kind: str):
    files = {"README.md": b"text", "top/1.JPG": b"one", "top/a/2.tif": b"two", "labels/all.json": b"{}"}
    store = make(kind, tmp_path, files)
    assert [store.read(name)[0] for name in ("1.JPG", "top/1.JPG", "a/2.tif")] == [b"one", b"one", b"two"]
    with_two = make(kind, tmp_path, {"top/1.jpg": b"one", "other/1.jpg": b"two", "2.txt": b""})
    assert reason(with_two, "1.jpg") == "image_missing"


def test_later_member_of_a_tar_replaces_an_earlier_one(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for data in (b"old", b"new"):
            member = tarfile.TarInfo("./1.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert ImageStore.open(tmp_path, "a.tar", 1000).read("1.jpg")[0] == b"new"


@pytest.mark.parametrize("data", [b"PK\5\6" + bytes(40), None])
def test_tar_that_ends_in_what_looks_like_a_zip_is_a_tar(tmp_path, data: bytes | None):
    write_zip(tmp_path / "features.npz", {"x.npy": b"x"})
    write_tar(tmp_path / "a.tar", {"1.jpg": b"one", "last": data or (tmp_path / "features.npz").read_bytes()})
    assert ImageStore.open(tmp_path, "a.tar", 1000).read("1.jpg")[0] == b"one"
    assert ImageStore.open(tmp_path, None, 1000).read("a.tar/1.jpg")[0] == b"one"


@pytest.mark.parametrize("size", [-512, -(2**70)])
def test_tar_with_a_negative_size_is_refused(tmp_path, size: int):
    write_tar(tmp_path / "a.tar", {"1.jpg": b"one", "2.jpg": b"two"})
    data = bytearray((tmp_path / "a.tar").read_bytes())
    data[1024 + 124 : 1024 + 136] = size.to_bytes(12, "big", signed=True)  # of the second member, in base 256
    data[1024 + 148 : 1024 + 156] = b" " * 8
    data[1024 + 148 : 1024 + 156] = b"%06o\0 " % sum(data[1024:1536])
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.tar is cut off or damaged"):
        ImageStore.open(tmp_path, "a.tar", 1000)


@pytest.mark.parametrize("cut", [100, 512, 700, 1024, 1500, 2048])
def test_tar_that_is_cut_off_is_refused(tmp_path, cut: int):
    write_tar(tmp_path / "a.tar", {"1.jpg": b"1" * 400, "2.jpg": b"2" * 400})
    (tmp_path / "a.tar").write_bytes((tmp_path / "a.tar").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"a\.tar is cut off or damaged"):
        ImageStore.open(tmp_path, "a.tar", 1000)


def test_packed_tar_is_refused_with_the_way_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz"):
        pass
    with pytest.raises(UserError, match="unpack it"):
        ImageStore.open(tmp_path, "a.tar.gz", 1000)


def test_missing_place_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"images\.zip is missing"):
        ImageStore.open(tmp_path, "images.zip", 1000)


def test_member_of_a_zip_without_a_name_is_left_out(tmp_path):
    nameless = zipfile.ZipInfo("x")
    nameless.filename = ""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(nameless, b"abc")
        archive.writestr("b.png", b"bytes")
    store = ImageStore.open(tmp_path, "a.zip", 1000)
    assert list(store.names()) == ["b.png"]
    assert store.read("b.png") == (b"bytes", False)


@pytest.mark.parametrize(
    ("part", "beside", "remedy"),
    [
        ("a.zip.001", "a.zip.002", r"cat \S+a\.zip\.\* > \S+a\.zip$"),
        ("a.zip", "a.z01", r"zip -s 0 \S+a\.zip --out whole\.zip$"),
        ("a.z01", "a.zip", r"zip -s 0 \S+a\.zip --out whole\.zip$"),
        ("a.z02", "a.z01", r"zip -s 0 \S+a\.zip --out whole\.zip$"),
    ],
)
def test_part_of_a_zip_is_said_with_the_command_that_joins_it(tmp_path: Path, part: str, beside: str, remedy: str):
    write_zip(tmp_path / "whole", FILES)
    data = (tmp_path / "whole").read_bytes()
    start = {"a.z01": b"PK\7\x08", "a.z02": b"within a member"}.get(part, b"")
    (tmp_path / part).write_bytes(start + data[:-30])
    (tmp_path / beside).write_bytes(data[-30:])
    with pytest.raises(UserError, match=rf"is a part of a zip; join them: {remedy}"):
        ImageStore.open(tmp_path, part, 1000)


def test_last_part_of_a_zip_has_the_members_of_others_in_its_list(tmp_path: Path):
    write_zip(tmp_path / "a.zip", FILES)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    number = data.index(b"PK\1\2") + 34  # where the list says in which part its first member begins
    data[number : number + 2] = struct.pack("<H", 2)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UserError, match="is a part of a zip"):
        ImageStore.open(tmp_path, "a.zip", 1000)


def test_image_of_a_source_that_names_no_images_is_missing(tmp_path: Path):
    """`images:` left empty, beside records that name their images."""
    store = ImageStore.open(tmp_path, None, 1000)
    for name in ("1.jpg", "a.tar/1.jpg", "a/b.tar/"):
        with pytest.raises(ImageError, match="images names no folder, zip or tar") as caught:
            store.find(name)
        assert caught.value.reason == "image_missing"
