"""The README's example of a source of one's own, run as it stands there."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from components.data.shards import PreparedRows
from components.params import Source
from components.sources import SOURCES
from tests.raw import data_settings, picture, prepared, write_zip

README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    text = README.read_text(encoding="utf-8")
    found = re.search(r"components/data/sources/vqa_csv\.py`\n\n((?:    .*\n|\n)+)", text)
    assert found
    return textwrap.dedent(found[1]).strip()


def test_source_of_the_readme_is_short_and_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(example().splitlines()) <= 30
    module: dict[str, Any] = {}
    exec(example(), module)
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
