"""Real published files, from the folder that LEA_REALDATA names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from components.data.shards import PreparedRows
from components.images.decoding import decode, verify
from components.params import Source
from components.prepare.dry_run import check_source
from tests.raw import data_settings, prepared

pytestmark = [
    pytest.mark.realdata,
    pytest.mark.skipif("LEA_REALDATA" not in os.environ, reason="LEA_REALDATA names no folder of real files"),
]

SETTINGS = data_settings(max_pixels=50_000_000, max_rejected=0.05)


def rejected(folder: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in pq.read_table(folder / "rejects.parquet").to_pylist()}


def test_web_captions_are_read_whole(tmp_path):
    spec = Source(kind="webdataset", path="${LEA_REALDATA}/web_captions", annotations="*.tar", images=None)
    manifest = prepared("web", spec, SETTINGS, tmp_path / "web")
    assert (manifest["records"]["kept"], manifest["records"]["rejected"]) == (32, 0)
    rows = list(PreparedRows(tmp_path / "web"))
    assert all(decode(row.image or b"", SETTINGS.max_pixels).width > 100 for row in rows)
    assert rows[0].samples[0].turns[1].text == "Red Square is a city square in Moscow, Russia."


def test_nutrition5k_keeps_the_photos_and_names_every_wart(tmp_path):
    path = "${LEA_REALDATA}/nutrition5k"
    spec = Source(kind="nutrition5k", path=path, annotations="ragged/dish_metadata_*.csv", images=".")
    manifest = prepared("dishes", spec, SETTINGS, tmp_path / "dishes")
    assert (manifest["rows"], manifest["tasks"]) == (44, {"ingredients": 44, "nutrition": 44})
    rows = list(PreparedRows(tmp_path / "dishes"))
    assert len({row.group for row in rows}) == 6
    found = rejected(tmp_path / "dishes")
    assert len(found) == 5000  # dishes described, none of their photos here
    assert found["dish_1551567573"] == found["dish_1551567604"] == "nutrition_over_9_kcal_per_g"  # 9486 kcal, 159 g
    assert found["dish_1572974428"] == "nutrition_zero_total"
    assert found["dish_1558372433"] == "ingredient_deprecated"


def test_nutrition5k_padded_copy_without_header_reads_the_same(tmp_path):
    source = Path(os.environ["LEA_REALDATA"]) / "nutrition5k"
    golds = {}
    for name in ("padded_head200_dish_metadata_cafe1.csv", "ragged/dish_metadata_cafe1.csv"):
        raw = tmp_path / Path(name).stem
        raw.mkdir()
        shutil.copy(source / name, raw / "metadata.csv")
        shutil.copy(source / "overhead/dish_1563909580.jpg", raw / "dish_1561662216.jpg")
        spec = Source(kind="nutrition5k", path=str(raw), annotations="metadata.csv", images=".")
        manifest = prepared("dishes", spec, SETTINGS, tmp_path / "out" / raw.name)
        assert "record_malformed" not in manifest["records"]["reasons"]
        golds[name] = [sample.gold for sample in PreparedRows(tmp_path / "out" / raw.name)[0].samples]
    one, two = golds.values()
    assert one == two


def test_messages_layout_with_photos_is_read(tmp_path):
    path = "${LEA_REALDATA}/llava_format/llamafactory_mllm"
    spec = Source(kind="llava_json", path=path, annotations="mllm_demo.json", images=".")
    prepared("chat", spec, data_settings(max_pixels=50_000_000), tmp_path / "chat")
    assert len(PreparedRows(tmp_path / "chat")) == 6  # two of them show one photo twice


def test_parts_layouts_are_read(tmp_path):
    """The photos lie under resource/, as the records say."""
    source = Path(os.environ["LEA_REALDATA"]) / "llava_format/xtuner"
    shutil.copytree(source, tmp_path / "raw")
    (tmp_path / "raw/resource").mkdir()
    for photo in (tmp_path / "raw").glob("*.jpg"):
        photo.rename(tmp_path / "raw/resource" / photo.name)
    for name in ("example_data", "example_data_new"):
        spec = Source(
            kind="llava_json", path=str(tmp_path / "raw"), annotations=f"*single_image_{name}.jsonl", images="."
        )
        manifest = prepared("chat", spec, SETTINGS, tmp_path / name)
        assert manifest["records"]["kept"] == {"example_data": 22, "example_data_new": 22}[name]


FILES: dict[str, tuple[int, dict[str, int]]] = {  # kept and rejected records
    "buaadreamer_dataset_info.json": (0, {"record_malformed": 1}),  # no records: what a toolkit calls its files
    "buaadreamer_mllm_demo.json": (3, {}),
    "buaadreamer_mllm_pt_demo.json": (6, {}),
    "mllm_demo.json": (6, {}),
    "mllm_pretrain_image_example_data.jsonl": (0, {"record_malformed": 12}),  # a role "pretrain", no question
    "mllm_pretrain_image_example_data_new.jsonl": (0, {"record_malformed": 12}),
    "mllm_sft_multi_image_example_data.jsonl": (1, {"image_many": 10}),
    "mllm_sft_multi_image_example_data2.jsonl": (10, {}),
    "mllm_sft_multi_image_example_data_new.jsonl": (1, {"image_many": 10}),
    "mllm_sft_single_image_example_data.jsonl": (22, {}),
    "mllm_sft_single_image_example_data_new.jsonl": (22, {}),
    "mllm_sft_text_example_data.jsonl": (200, {}),
}


def test_every_instruction_file_is_accounted_for():
    """Photos lie elsewhere than the records say: named part by part, not moved."""
    images = {
        "llamafactory_mllm": {"data/mllm_demo_data": "mllm_demo_data", "mllm_demo_data": "mllm_demo_data"},
        "xtuner": {"resource": "."},
    }
    found = {}
    for path in sorted((Path(os.environ["LEA_REALDATA"]) / "llava_format").rglob("*.json*")):
        folder = path.parent.name
        spec = Source(kind="llava_json", path=str(path.parent), annotations=path.name, images=images[folder])
        counts = check_source(path.name, spec, SETTINGS, None).counts
        found[path.name] = (counts.kept, dict(counts.reasons))
    assert found == FILES


def test_every_photo_decodes():
    photos = [
        path for path in Path(os.environ["LEA_REALDATA"]).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    ]
    assert len(photos) == 91
    for path in photos:
        verify(path.read_bytes(), SETTINGS.max_pixels)
