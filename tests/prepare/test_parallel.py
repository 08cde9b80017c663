"""The same shards whoever makes them; what was finished is not made again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from components.data.shards import PreparedRows
from components.errors import UserError
from components.params import Source
from components.prepare import parallel as spread
from components.prepare.chunk import make_chunk
from tests.raw import data_settings, llava_record, picture, prepared, raw_llava_json, tokenizer_file, write_tar

ROOT = Path(__file__).parents[2]
SETTINGS = data_settings(shard_bytes=6000)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def shards(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(folder).items() if name.startswith("shard")}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the chunks that are made from now on."""
    made = list[int]()

    def counting(chunk: Any, *rest: Any) -> Any:
        made.append(chunk.number)
        return make_chunk(chunk, *rest)

    monkeypatch.setattr(spread, "make_chunk", counting)
    return made


def test_ray_workers_give_the_bytes_that_one_process_gives(tmp_path, monkeypatch):
    spec = raw_llava_json(tmp_path / "raw", 150)
    (tmp_path / "raw/images.tar").unlink()
    write_tar(tmp_path / "raw/images.tar", {f"{i}.png": picture(i) for i in range(150) if i % 7})
    prepared("mine", spec, SETTINGS, tmp_path / "here")
    monkeypatch.setattr(spread, "_WORTH_RAY_ITEMS", 0)
    manifest = prepared("mine", spec, SETTINGS, tmp_path / "there")
    assert len(manifest["shards"]) > 5
    assert manifest["records"]["reasons"] == {"image_missing": 22}
    assert files(tmp_path / "here") == files(tmp_path / "there")


@pytest.mark.slow
def test_users_mistake_in_a_worker_is_one_line(tmp_path, monkeypatch):
    def refusing(*_: Any) -> None:
        raise UserError("no")

    monkeypatch.setattr(spread, "make_chunk", refusing)
    monkeypatch.setattr(spread, "_WORTH_RAY_ITEMS", -1)
    with pytest.raises(UserError, match=r"^no$"):
        prepared("mine", raw_llava_json(tmp_path / "raw", 40), SETTINGS, tmp_path / "out")


def test_finished_chunks_are_found_again(tmp_path, monkeypatch, own_home):
    spec = raw_llava_json(tmp_path / "raw", 100)
    prepared("mine", spec, SETTINGS, tmp_path / "whole")
    made = counted(monkeypatch)
    calls = 0

    def stopping(kept: int, rejected: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared("mine", spec, SETTINGS, tmp_path / "out", stopping)
    assert not (tmp_path / "out").exists()
    before = list(made)
    assert 1 < len(before) < 7
    made.clear()
    prepared("mine", spec, SETTINGS, tmp_path / "out")
    assert made[0] == before[-1]  # the one that was being made
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not list((own_home / "runs").glob("prepare-*"))


def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path) -> tuple[Source, Path, list[int]]:
    """A preparation that was stopped in its fourth chunk, the folder of its run, and the chunks made after this."""
    spec = raw_llava_json(tmp_path / "raw", 100)
    made = counted(monkeypatch)

    def stopping(kept: int, rejected: int) -> None:
        if len(made) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared("mine", spec, SETTINGS, tmp_path / "out", stopping)
    made.clear()
    (folder,) = (own_home / "runs").glob("prepare-*")
    return spec, folder, made


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("shard", "flipped"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [("shard", "cut"), ("shard", "gone"), ("index", "cut"), ("rejects", "flipped")]
        ),
    ],
)
def test_chunk_that_was_damaged_meanwhile_is_made_again(tmp_path, monkeypatch, own_home, name: str, damage: str):
    spec, folder, made = stopped(tmp_path, monkeypatch, own_home)
    path = folder / f"{name}-00001.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink() if damage == "gone" else path.write_bytes(data[:-1] if damage == "cut" else data)
    prepared("mine", spec, SETTINGS, tmp_path / "out")
    assert made[0] == 1
    prepared("mine", spec, SETTINGS, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize(
    "text", ["edited", *(pytest.param(text, marks=pytest.mark.slow) for text in ("", "[]", "[" * 5000))]
)
def test_counts_that_were_edited_are_made_again(tmp_path, monkeypatch, own_home, text: str):
    spec, folder, made = stopped(tmp_path, monkeypatch, own_home)
    path = folder / "counts-00002.json"
    path.write_text(path.read_text().replace('"kept": ', '"kept": 9') if text == "edited" else text)
    manifest = prepared("mine", spec, SETTINGS, tmp_path / "out")
    assert made[0] == 2
    assert manifest["records"]["kept"] == 100


def test_only_chunks_whose_images_changed_are_made_again(tmp_path, monkeypatch):
    spec = raw_llava_json(tmp_path / "raw", 100).model_copy(update={"images": "images"})
    (tmp_path / "raw/images").mkdir()
    for number in range(100):
        (tmp_path / f"raw/images/{number}.png").write_bytes(picture(number) if number else b"")
    strict = data_settings(shard_bytes=6000, max_rejected=0)
    with pytest.raises(UserError, match="1 of 100 records rejected"):
        prepared("mine", spec, strict, tmp_path / "out")
    (tmp_path / "raw/images/0.png").write_bytes(picture(0))
    made = counted(monkeypatch)
    prepared("mine", spec, strict, tmp_path / "out")
    assert made == [0]
    assert len(PreparedRows(tmp_path / "out")) == 100


def test_appended_records_leave_earlier_shards_untouched(tmp_path):
    for number in (100, 130):
        prepared("mine", raw_llava_json(tmp_path / f"raw{number}", number), SETTINGS, tmp_path / f"out{number}")
    before, after = (list(shards(tmp_path / f"out{number}").values()) for number in (100, 130))
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) > len(before) > 3


KILLED = """
import sys
from pathlib import Path
from components.prepare import chunk as chunk
from components.prepare import parallel as spread
from components.prepare.source import prepare_source
from components.params import Data, Source
import json, time
spec, data, tokenizer, out = json.loads(sys.argv[1])
spread._WORTH_RAY_ITEMS = int(sys.argv[2])
def slowly(chunk, *rest):
    from components.prepare.chunk import make_chunk
    if chunk.number >= 3:
        time.sleep(600)
    return make_chunk(chunk, *rest)
spread.make_chunk = slowly
prepare_source("mine", Source(**spec), Data(**data), Path(tokenizer), Path(out))
"""


def test_killed_preparation_goes_on(tmp_path, monkeypatch, own_home):
    """SIGKILL, as the system's memory killer sends it."""
    spec = raw_llava_json(tmp_path / "raw", 100)
    arguments = json.dumps([spec.model_dump(), SETTINGS.model_dump(), str(tokenizer_file()), str(tmp_path / "out")])
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, arguments, "1000"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "LEA_HOME": str(own_home)},
    )
    until = time.monotonic() + 60
    while len(list((own_home / "runs").glob("prepare-*/counts-*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    made = counted(monkeypatch)
    manifest = prepared("mine", spec, SETTINGS, tmp_path / "out")
    assert made == list(range(3, len(manifest["shards"])))
    assert manifest["records"]["kept"] == 100


def test_images_from_several_archives_by_the_first_part_of_their_names(tmp_path):
    """mix665k: coco/train2017, gqa/images, .. each in the archive it came in."""
    root = tmp_path / "raw"
    for part in ("coco", "gqa", "ocr_vqa/images"):
        (root / part).mkdir(parents=True)
    write_tar(root / "coco/train2017.tar", {"train2017/1.png": picture(1)})
    write_tar(root / "gqa/images.tar", {"images/2.png": picture(2)})
    (root / "ocr_vqa/images/3.gif").write_bytes(picture(3, format="GIF"))
    names = ["coco/train2017/1.png", "gqa/images/2.png", "ocr_vqa/images/3.jpg", "vg/VG_100K/4.png", "coco/1.png"]
    records = [llava_record(number, image=name) for number, name in enumerate(names)]
    (root / "mix.json").write_text(json.dumps(records))
    images = {
        "coco/train2017": "coco/train2017.tar",
        "gqa/images": "gqa/images.tar",
        "ocr_vqa/images": "ocr_vqa/images",
    }
    spec = Source(kind="llava_json", path=str(root), annotations="mix.json", images=images)
    manifest = prepared("mix", spec, data_settings(), tmp_path / "out")
    assert [row.image for row in PreparedRows(tmp_path / "out")] == [
        picture(1),
        picture(2),
        picture(3, format="GIF"),
    ]
    assert manifest["records"]["reasons"] == {"image_missing": 2}
    assert manifest["images_under_another_ending"] == 1
