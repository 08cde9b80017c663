"""Splits that the names of files declare, and files that an annotation's pattern matches by accident."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.params import Source
from components.sources import SOURCES
from components.sources.entry import Entry, annotation_files
from tests.raw import llava_record, unifood_record, write_tar


def splits(folder: Path, kind: str, pattern: str) -> dict[str, str | None]:
    """By the image's name."""
    spec = Source(kind=kind, path=str(folder), annotations=pattern, images=".")
    return {one.image or "": one.split for one in SOURCES[kind](spec) if isinstance(one, Entry)}


def write(folder: Path, name: str, record: dict[str, Any], image: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({**record, "image": image}), encoding="utf-8")


@pytest.mark.parametrize(("kind", "record"), [("llava_json", llava_record(1)), ("unifood", unifood_record(1))])
def test_files_that_are_named_by_different_splits_declare_them(
    tmp_path: Path, kind: str, record: dict[str, Any]
) -> None:
    for name in ("food_train.json", "food-val.json", "test/a.json", "more.json", "train_test.json"):
        write(tmp_path, name, record, f"{name}.jpg")
    write(tmp_path, "test/b.json", {**record, "split": "train"}, "own.jpg")
    assert splits(tmp_path, kind, "**/*.json") == {
        "food_train.json.jpg": "train",
        "food-val.json.jpg": "validation",
        "test/a.json.jpg": "test",
        "more.json.jpg": None,
        "train_test.json.jpg": None,
        "own.jpg": "train",
    }


@pytest.mark.parametrize("names", [["train.json"], ["train_1.json", "train_2.json", "more.json"], ["pretrain.json"]])
def test_files_of_one_split_alone_declare_nothing(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path, name, llava_record(1), f"{name}.jpg")
    assert set(splits(tmp_path, "llava_json", "*.json").values()) == {None}


def test_tars_that_are_named_by_splits_declare_them_and_hold_every_kind_of_image(tmp_path: Path) -> None:
    for name, ending in (("train-0.tar", "gif"), ("val-0.tar", "JPG")):
        write_tar(tmp_path / name, {f"1.{ending}": b"", "1.txt": b"A dog."})
    found = splits(tmp_path, "webdataset", "*.tar")
    assert found == {"train-0.tar/1.gif": "train", "val-0.tar/1.JPG": "validation"}


def test_copies_that_editors_keep_are_not_read(tmp_path: Path) -> None:
    for name in ("a.json", ".ipynb_checkpoints/a-checkpoint.json", ".a.json"):
        write(tmp_path, name, llava_record(1), "1.jpg")
    spec = Source(kind="llava_json", path=str(tmp_path), annotations="**/*.json", images=".")
    assert [path.name for path in annotation_files(spec)] == ["a.json"]
    named = spec.model_copy(update={"annotations": ".a.json"})
    assert [path.name for path in annotation_files(named)] == [".a.json"]
    (tmp_path / "a.json").unlink()
    with pytest.raises(UserError, match="holds no file"):
        annotation_files(spec)


@pytest.mark.parametrize("pattern", ["", ".", "**.json", "a**/b.json"])
def test_pattern_that_is_none_is_one_line(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UserError, match=r"annotations must be as a\.json, \*\.json or \*\*/\*\.json, got '"):
        annotation_files(Source(kind="llava_json", path=str(tmp_path), annotations=pattern, images="."))
