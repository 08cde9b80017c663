"""`lea check`: the checks alone, on a source of params.yaml or on a file that someone has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from components.errors import UserError
from pipelines import cli
from pipelines.verbs import check
from tests.raw import llava_record, picture, write_tar, write_zip

ROOT = Path(__file__).parents[2]


def lea(*arguments: str) -> None:
    parsed = cli.parser().parse_args(["check", *arguments])
    check.run(parsed)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """30 records, one without an image, beside params.yaml; images in a zip."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "mine.json").write_text(json.dumps([llava_record(number) for number in range(30)]))
    write_zip(tmp_path / "images.zip", {f"{number}.png": picture(number) for number in range(29)})
    return tmp_path


def test_file_with_its_images_is_checked_and_nothing_written(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(mine.rglob("*"))
    lea("mine.json", "--images", "images.zip", "--json")
    found = json.loads(capsys.readouterr().out)
    assert found["records"] == {
        "read": 30,
        "kept": 29,
        "rejected": 1,
        "rejected_as_expected": 0,
        "reasons": {"image_missing": 1},
    }
    assert found["rejects"] == [{"id": "00029", "reason": "image_missing", "detail": "29.png"}]
    assert found["problem"] is None
    assert sorted(mine.rglob("*")) == before


def test_images_in_the_home_folder_are_found(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(mine))
    lea("mine.json", "--images=~/images.zip")


def test_too_many_rejects_are_named_and_refused(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tar(mine / "few.tar", {f"{number}.png": picture(number) for number in range(5)})
    with pytest.raises(UserError, match=r"mine\.json: 25 of 30 records rejected \(83\.3%, above data\.max_rejected"):
        lea("mine.json", "--images", "few.tar")
    out = capsys.readouterr().out
    assert "image_missing" in out
    assert "00010" in out
    assert "the first 20" in out


def test_source_of_params_is_checked_by_name(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = mine / "data/raw/plates_captions"
    raw.mkdir(parents=True)
    (mine / "mine.json").rename(raw / "captions.json")
    write_tar(raw / "images.tar", {f"{number}.png": picture(number) for number in range(30)})
    lea("captions")
    shown = capsys.readouterr()
    assert "captions: 30 rows, 30 images" in shown.out
    assert shown.out.splitlines()[-1] == "captions: 30 of 30 samples can be used"
    assert "note:" not in shown.err
    (raw / "images.tar").rename(mine / "images.tar")
    (mine / "params.yaml").write_text(
        (mine / "params.yaml").read_text().replace("images: images.tar", "images: ../../../images.tar", 1)
    )
    lea("captions")
    noted = " ".join(capsys.readouterr().err.split())
    assert "images.tar lies outside data.sources.captions.path: DVC neither keeps it nor sees when it changes" in noted
    assert noted.endswith("dvc repro -s -f prepare@captions")


def test_images_under_another_ending_are_counted_on_the_screen(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the photos there may be their masks, under the same names."""
    write_zip(
        mine / "others.zip", {f"{number}.{'gif' if number < 3 else 'png'}": picture(number) for number in range(30)}
    )
    lea("mine.json", "--images", "others.zip")
    assert "images under another ending │      3" in capsys.readouterr().out


def test_declared_splits_are_counted_on_the_screen(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [llava_record(number) | ({"split": "test"} if number < 4 else {}) for number in range(29)]
    (mine / "mine.json").write_text(json.dumps(records))
    lea("mine.json", "--images", "images.zip")
    shown = capsys.readouterr().out
    assert "declared test │      4" in shown
    assert "declared none" not in shown


def test_what_is_neither_file_nor_source_is_one_line(mine: Path) -> None:
    with pytest.raises(UserError, match=r"nothing\.json is no file and no source of params\.yaml"):
        lea("nothing.json")
