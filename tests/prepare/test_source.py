"""Every record is kept or named; the same input gives the same bytes; damage never crashes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.data.shards import PreparedRows
from components.errors import UserError
from components.prepare.checks import REASONS
from tests.raw import RAW, data_settings, llava_record, picture, prepared, raw_llava_json, write_folder, write_tar

EVERY_KIND = pytest.mark.parametrize("kind", sorted(RAW))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def check_accounts(folder: Path, manifest: dict[str, Any]) -> None:
    """kept + rejected = read, and what the files hold is what the manifest says."""
    records = manifest["records"]
    rejects = pq.read_table(folder / "rejects.parquet").to_pylist()
    rows = list(PreparedRows(folder))
    assert records["kept"] == sum(len(row.samples) for row in rows) == sum(manifest["tasks"].values())
    assert records["rejected"] == len(rejects)
    assert records["read"] == records["kept"] + records["rejected"]
    assert records["reasons"] == dict(Counter(reject["reason"] for reject in rejects))
    assert set(records["reasons"]) <= set(REASONS)
    assert manifest["rows"] == len(rows)


@EVERY_KIND
def test_sound_source_is_kept_whole(tmp_path, kind: str):
    manifest = prepared("mine", RAW[kind](tmp_path / "raw"), data_settings(), tmp_path / "out")
    check_accounts(tmp_path / "out", manifest)
    assert manifest["records"]["rejected"] == 0
    assert json.loads((tmp_path / "out/manifest.json").read_text()) == manifest


@EVERY_KIND
def test_same_input_gives_the_same_bytes(tmp_path, kind: str):
    spec = RAW[kind](tmp_path / "raw", 40)
    for out in ("one", "two"):
        prepared("mine", spec, data_settings(shard_bytes=6000), tmp_path / out)
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_digest_follows_the_content_not_the_shard_size(tmp_path):
    spec = raw_llava_json(tmp_path / "raw", 300)
    sizes = (20_000, 1_000_000)
    one, two = (prepared("m", spec, data_settings(shard_bytes=size), tmp_path / str(size)) for size in sizes)
    assert len(one["shards"]) > len(two["shards"]) == 1
    assert one["digest"] == two["digest"]
    write_tar(tmp_path / "raw/images.tar", {f"{i}.png": picture(i + (i == 7)) for i in range(300)})
    assert prepared("m", spec, data_settings(), tmp_path / "changed")["digest"] != one["digest"]


def test_neighbouring_records_of_one_image_become_one_row(tmp_path):
    spec = raw_llava_json(tmp_path / "raw", 3)
    records = [llava_record(number, id=str(place)) for place, number in enumerate([0, 0, 1, 0, 2, 2, 2])]
    (tmp_path / "raw/captions.json").write_text(json.dumps(records))
    manifest = prepared("mine", spec, data_settings(), tmp_path / "out")
    ids = [[sample.id for sample in row.samples] for row in PreparedRows(tmp_path / "out")]
    assert ids == [["0", "1"], ["2"], ["3"], ["4", "5", "6"]]
    check_accounts(tmp_path / "out", manifest)


def test_one_image_in_countless_records_does_not_become_one_huge_row(tmp_path):
    spec = raw_llava_json(tmp_path / "raw", 1)
    (tmp_path / "raw/captions.json").write_text(json.dumps([llava_record(0, id=i) for i in range(200)]))
    prepared("mine", spec, data_settings(), tmp_path / "out")
    assert max(len(row.samples) for row in PreparedRows(tmp_path / "out")) == 64


def test_every_kind_of_bad_image_is_named(tmp_path):
    bad = {
        "0.png": (b"", "image_empty"),
        "1.png": (b"version https://git-lfs.github.com/spec/v1\n", "image_lfs_pointer"),
        "2.png": (picture(2)[:40], "image_corrupt"),
        "3.png": (picture(3, (200, 100)), "image_too_large"),
        "4.png": (b"<html>", "image_other_kind"),
    }
    spec = raw_llava_json(tmp_path / "raw", 8).model_copy(update={"images": "images"})
    write_folder(tmp_path / "raw/images", {name: data for name, (data, _) in bad.items()} | {"5.jpg": picture(5)})
    (tmp_path / "raw/images/6.png").symlink_to("/etc/passwd")
    manifest = prepared("mine", spec, data_settings(), tmp_path / "out")
    rejects = pq.read_table(tmp_path / "out/rejects.parquet").to_pylist()
    wanted = [reason for _, reason in bad.values()] + ["image_outside_root", "image_missing"]
    assert [reject["reason"] for reject in rejects] == wanted
    assert [reject["id"] for reject in rejects] == ["00000", "00001", "00002", "00003", "00004", "00006", "00007"]
    assert {reject["source"] for reject in rejects} == {"mine"}
    assert manifest["images_under_another_ending"] == 1  # 5.png lies there as 5.jpg
    check_accounts(tmp_path / "out", manifest)


def test_too_many_rejects_stop_with_one_line_and_leave_their_list(tmp_path, own_home):
    spec = raw_llava_json(tmp_path / "raw", 10)
    write_tar(tmp_path / "raw/images.tar", {f"{i}.png": picture(i) for i in range(8)})
    prepared("mine", spec, data_settings(max_rejected=0.2), tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(UserError) as caught:
        prepared("mine", spec, data_settings(max_rejected=0.19), tmp_path / "out")
    message = str(caught.value)
    assert message.startswith("data.sources.mine: 2 of 10 records rejected (20.0%, above data.max_rejected 19.0%)")
    assert "image_missing (2" in message
    assert "\n" not in message
    assert str(own_home / "rejects/mine.parquet") in message
    assert pq.read_table(own_home / "rejects/mine.parquet")["id"].to_pylist() == ["00008", "00009"]
    assert files(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_expected_rejects_are_counted_but_do_not_fail_the_source(tmp_path):
    spec = RAW["nutrition5k"](tmp_path / "raw", 5)
    for number in range(1, 5):
        for photo in (tmp_path / "raw").rglob(f"*dish_{number}*"):
            if photo.is_file():
                photo.unlink()
        (tmp_path / f"raw/imagery/dish_{number}/camera_A_frame_001.png").unlink()
    manifest = prepared("mine", spec, data_settings(max_rejected=0), tmp_path / "out")
    assert manifest["records"]["reasons"] == {"no_photo": 4}
    assert manifest["records"]["rejected_as_expected"] == 4
    check_accounts(tmp_path / "out", manifest)


def test_source_without_a_usable_record_is_refused(tmp_path):
    spec = raw_llava_json(tmp_path / "raw", 2)
    (tmp_path / "raw/captions.json").write_text("[]")
    with pytest.raises(UserError, match=r"data\.sources\.mine: its files hold no record"):
        prepared("mine", spec, data_settings(), tmp_path / "out")
    (tmp_path / "raw/captions.json").write_text("[1, 2]")
    with pytest.raises(UserError, match=r"2 of 2 records rejected \(all\), mostly record_malformed"):
        prepared("mine", spec, data_settings(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_counts_up_to_all_records(tmp_path):
    seen = list[tuple[int, int]]()
    prepared("m", raw_llava_json(tmp_path / "raw"), data_settings(), tmp_path / "out", lambda *n: seen.append(n))
    assert seen[-1] == (6, 0)
    assert seen == sorted(seen)
