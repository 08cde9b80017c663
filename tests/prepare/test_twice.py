"""Everything that is written is a function of its inputs: the same work in two folders gives the same bytes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.images.test_damage import bomb
from tests.raw import data_settings, llava_record, picture, prepared, raw_llava_json, write_folder, write_zip

ROOT = Path(__file__).parents[2]
TOOK = (
    "time",
    "seconds",
    "tokens_per_s",
    "samples_per_s",
    "memory_peak_bytes",
)  # columns of log.csv that a clock fills

REJECTED = {  # a file for each way in which an image is refused
    "html.png": b"<!DOCTYPE html><title>404</title>",
    "heic.png": b"\0\0\0\x18ftypheic" + bytes(60),
    "junk.png": b"junk",
    "cut.png": picture(1, (30, 30))[:60],
    "cut.jpg": picture(1, (30, 30), "JPEG")[:400],
    "cut.gif": picture(1, (30, 30), "GIF")[:40],
    "cut.webp": picture(1, (30, 30), "WEBP")[:20],
    "cut.tif": picture(1, (30, 30), "TIFF")[:90],
    "empty.png": b"",
    "lfs.png": b"version https://git-lfs.github.com/spec/v1\n",
    "large.png": picture(3, (200, 100)),
    "bomb.png": bomb(1, 140_000),
}
NAMED = [
    "../x.png",
    "/etc/passwd",
    "missing.png",
    "GOOD.png",
    "https://example.org/1.png",
    "data:image/png;base64,x",
    "\ud800",
]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def places(prepared: Path, root: Path) -> list[str]:
    """Details of rejects that name the folder in which they were found, or an address in memory."""
    details = pq.read_table(prepared / "rejects.parquet")["detail"].to_pylist()
    assert len(details) >= len(REJECTED)
    return [detail for detail in details if str(root) in detail or "0x" in detail]


def write_source(root: Path) -> None:
    root.mkdir(parents=True)
    names = ["good.png", *REJECTED, *NAMED, "way/good.png", "pipe.png"]
    records = [llava_record(number, image=name) for number, name in enumerate(names)]
    (root / "a.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n{broken\n[]\n")
    write_folder(root / "images", {"good.png": picture(1), **REJECTED})
    (root / "images/way").symlink_to(root / "images")
    os.mkfifo(root / "images/pipe.png")


def test_preparing_in_two_folders_gives_the_same_bytes(tmp_path, monkeypatch):
    """With a reject of nearly every kind: none of their details names a place or an address."""
    found = []
    for name in ("one", "other/folder"):
        write_source(tmp_path / name / "raw")
        monkeypatch.chdir(tmp_path / name)
        spec = raw_llava_json(tmp_path / name / "unused").model_copy(
            update={"path": "raw", "annotations": "*.jsonl", "images": "images"}
        )
        manifest = prepared("mine", spec, data_settings(), Path("out"))
        found.append(files(tmp_path / name / "out"))
    assert found[0] == found[1]
    assert manifest["records"]["kept"] == 1
    assert len(manifest["records"]["reasons"]) >= 11
    assert not places(Path("out"), tmp_path)


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_rejects_hold_no_place(tmp_path, kind: str):
    write = {"zip": write_zip, "folder": write_folder}[kind]
    write(tmp_path / "images", REJECTED)
    spec = raw_llava_json(tmp_path / "raw").model_copy(update={"images": "../images"})
    (tmp_path / "raw/captions.json").write_text(
        json.dumps([llava_record(number, image=name) for number, name in enumerate(["good.png", *REJECTED])])
    )
    write(tmp_path / "images", {"good.png": picture(1), **REJECTED})
    prepared("mine", spec, data_settings(), tmp_path / "out")
    assert not places(tmp_path / "out", tmp_path)


TRAIN = """
from pathlib import Path
from pipelines import finetune, pretrain
from tests.workspace import prepare_workspace
params = prepare_workspace(Path.cwd())
pretrain.run(params)
finetune.run(params)
"""


@pytest.mark.slow
def test_preparing_and_training_in_two_folders_gives_the_same_bytes(tmp_path):
    found = []
    for name in ("one", "other/folder"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "LEA_HOME": str(folder / "home")}
        subprocess.run([sys.executable, "-c", TRAIN], cwd=folder, env=environment, check=True)
        found.append({part: files(folder / part) for part in ("data", "models")})
    one, other = found
    assert one["data"] == other["data"]
    assert sorted(one["models"]) == sorted(other["models"])
    for name in one["models"]:
        both = (one["models"][name], other["models"][name])
        if Path(name).name == "log.csv":
            assert without_clock(both[0]) == without_clock(both[1])
        else:
            assert both[0] == both[1], name


def without_clock(log: bytes) -> list[dict[str, str]]:
    lines = csv.DictReader(io.StringIO(log.decode()))
    return [{column: value for column, value in line.items() if column not in TOOK} for line in lines]
