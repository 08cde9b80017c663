"""The documentation's example of a source of one's own, run as it stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.data.shards import PreparedRows
from components.params import Source
from components.sources import SOURCES
from tests.extending import example, run_example
from tests.raw import data_settings, picture, prepared, write_zip


def test_source_of_the_documentation_is_short_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(example("vqa_csv.py").splitlines()) <= 30
    module = run_example("vqa_csv.py")
    monkeypatch.setitem(SOURCES, "vqa_csv", module["read"])
    (tmp_path / "raw").mkdir()
    rows = ["image,question,answer", *(f"{number}.png,What is it?,plate {number}" for number in range(9)), ",what?,x"]
    (tmp_path / "raw/a.csv").write_text("\n".join(rows))
    write_zip(tmp_path / "raw/images.zip", {f"{number}.png": picture(number) for number in range(8)})
    spec = Source(kind="vqa_csv", path=str(tmp_path / "raw"), annotations="*.csv", images="images.zip")
    manifest = prepared("mine", spec, data_settings(), tmp_path / "out")
    assert manifest["records"]["reasons"] == {"image_missing": 1, "record_malformed": 1}
    first = PreparedRows(tmp_path / "out")[0].samples[0]
    assert [turn.text for turn in first.turns] == ["<image>\nWhat is it?", "plate 0"]
