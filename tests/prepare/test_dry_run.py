"""`lea check` of a JSON by its path: the file as it is named, and the images beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.params import Source
from components.prepare.dry_run import check_source, named_source
from tests.raw import data_settings, llava_record, picture, write_folder

SOURCES: dict[str, Source] = {}


def kept(target: Path, images: Path | None = None) -> int:
    spec = named_source(str(target), str(images) if images else None, SOURCES)
    return check_source(str(target), spec, data_settings(), None).counts.kept


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """One record in a file that DVC made a link into its cache (cache.type symlink), and its image beside it."""
    cache, mine = tmp_path / "cache", tmp_path / "mine"
    cache.mkdir()
    mine.mkdir()
    (cache / "ab12cd").write_text(json.dumps([llava_record(1, image="1.png")]))
    (mine / "train.json").symlink_to("../cache/ab12cd")
    (mine / "1.png").write_bytes(picture(1))
    return mine


def test_json_that_is_a_link_is_read_by_its_name_with_the_images_beside_it(mine: Path) -> None:
    assert kept(mine / "train.json") == kept(mine / "train.json", mine) == 1


@pytest.mark.parametrize("cached", [False, True])
def test_link_to_a_json_elsewhere_has_the_images_beside_that(
    mine: Path, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    """`ln -s ../data/train.json .`; in DVC's cache lie contents of many files, and none of them is an image's name."""
    (mine / "1.png").rename(mine.parent / "cache/1.png")
    write_folder(mine.parent / ".dvc", {"config": b"[cache]\n    dir = ../cache\n" if cached else b""})
    monkeypatch.chdir(mine)
    assert kept(Path("train.json")) == (0 if cached else 1)


def test_dollar_in_a_folder_of_the_command_line_is_a_letter(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    folder = mine.rename(mine.with_name("$HOME ${x}"))
    assert kept(folder / "train.json") == kept(folder / "train.json", folder) == 1
    monkeypatch.chdir(folder.parent)
    assert kept(Path("$HOME ${x}/train.json"), Path("$HOME ${x}")) == 1
