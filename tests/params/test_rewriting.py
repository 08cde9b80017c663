from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from components.params import profiles
from components.params.reading import parse
from components.params.rewriting import rewritten
from components.params.trees import changed

ROOT = Path(__file__).parents[2]
PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")

MINE = """\
# my settings
seed:   17   # aligned by hand
data:
  sources:
    mine: {kind: llava_json, path: data/raw/a_folder_with_a_long_name, annotations: records.json, images: a.zip}
  splits: {validation: 0.1,
           test: 0.2}
vce:
    levels: [-2, -3]   # read

    # about the anchor
    anchor: -2
pretrain: {epochs: 3}
"""


def difference(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


@pytest.mark.parametrize(
    ("setting", "lines"),
    [
        ("adapter.rank=16", ["-   rank: 8", "+   rank: 16"]),
        ("vce.levels=[-2,-3]", ["-   - -4", "-   - -5"]),
        ("pretrain.tasks=[caption]", ["-   tasks: []", "+   tasks:", "+   - caption"]),
        ("finetune.learning_rate.adapter=1e-3", ["-     adapter: 0.005", "+     adapter: 0.001"]),
    ],
)
def test_dvc_changes_only_the_lines_of_a_setting(setting: str, lines: list[str], tmp_path: Path) -> None:
    copy = Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))
    apply_overrides(str(copy), [setting])  # what `dvc exp run -S` calls
    assert difference(PARAMS, copy.read_text(encoding="utf-8")) == lines


@pytest.mark.parametrize("name", profiles.names())
def test_dvc_changes_only_the_lines_of_a_setting_under_every_profile(name: str, tmp_path: Path) -> None:
    copy = Path(shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml"))
    profiles.apply(name, copy)
    before = copy.read_text(encoding="utf-8")
    apply_overrides(str(copy), ["seed=18"])
    assert difference(before, copy.read_text(encoding="utf-8")) == ["- seed: 17", "+ seed: 18"]


@pytest.mark.parametrize(
    ("key", "value", "lines"),
    [
        ("pretrain.epochs", 4, ["- pretrain: {epochs: 3}", "+ pretrain: {epochs: 4}"]),
        ("vce.anchor", -3, ["-     anchor: -2", "+   anchor: -3"]),
        ("vce.levels", [-2, -4], ["-     levels: [-2, -3]   # read", "+   levels: # read", "+   - -2", "+   - -4"]),
        ("seed", 18, ["- seed:   17   # aligned by hand", "+ seed: 18 # aligned by hand"]),
        ("added", {"rank": 8}, ["+ added: {rank: 8}"]),
        ("rate", 5e-5, ["+ rate: 5.0e-5"]),
    ],
)
def test_lines_without_a_changed_value_stay_as_a_person_wrote_them(key: str, value: Any, lines: list[str]) -> None:
    values = changed(parse(MINE), {key: value})
    text = rewritten(MINE, values)
    assert yaml.safe_load(text) == values
    found = difference(MINE, text)
    if key.startswith("vce"):  # the section's indentation is DVC's once a line of it changes, comments included
        assert "    # about the anchor" in text.replace("\n  #", "\n    #")
        found = [line for line in found if line in lines]
    assert found == lines


def test_order_of_a_replaced_table_is_the_new_one() -> None:
    values = changed(parse(PARAMS), {"plates.sets": {"unifood": 5, "captions": 7}})
    assert list(yaml.safe_load(rewritten(PARAMS, values))["plates"]["sets"]) == ["unifood", "captions"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &x {b: 1}\nc: *x\n",  # a change of one value would change two
        "base: &x\n  b: 1\nc:\n  <<: *x\n  d: 2\n",
        "a: {b: yes}\nc: {b: on}\n",  # true in YAML 1.1
        "\n\n# nothing else\na: {b: 1}\nc: {b: 1}",
    ],
)
def test_what_is_written_reads_back_as_the_values(text: str) -> None:
    values = changed(parse(text), {"c.b": 9})
    assert parse(rewritten(text, values)) == values
