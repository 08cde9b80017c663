"""Ids that spreadsheets change, and images' names of other systems."""

import json
from pathlib import Path

import pytest

from components.evaluation.offline.findings import Findings
from components.evaluation.offline.spelling import as_spelt
from tests.evaluation.offline.layouts import jsonl, score


@pytest.mark.parametrize(
    ("known", "given", "found"),
    [
        (["00012", "00007"], ["12", "00007", "7.0"], ["00012", "00007", "00007"]),
        (["1", "2"], ["1.0", "2", "3.0"], ["1", "2", "3.0"]),
        (["1000241", "241"], ["1,000,241", "241"], ["1000241", "241"]),
        (["012", "12"], ["12", "12.0", "0012"], ["12", "12.0", "0012"]),  # which one is meant is open
        (["0", "00010/recipe"], ["0.0", "10/recipe", "10/nutrition"], ["0", "00010/recipe", "10/nutrition"]),
        ([("01", "words")], [("1", "words"), ("1", "others")], [("01", "words"), ("1", "others")]),
        (["v1_01", "1.5"], ["v1_1", "1.50", "15"], ["v1_1", "1.50", "15"]),
    ],
)
def test_the_one_id_of_the_same_number_is_meant(known: list[str], given: list[str], found: list[str]) -> None:
    assert list(as_spelt(given, known, Path("a.csv"), Findings())) == found


def test_ids_that_lost_their_zeros_are_joined_and_reported(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.json", [{"question_id": f"{n:04}", "gt_answer": "A"} for n in range(4)])
    (tmp_path / "a.csv").write_text("question_id,prediction\n0,A\n1.0,A\n0002,A\n3,B\n")
    report = score("seed_bench", tmp_path / "a.csv", annotations=gold)
    assert report.metrics["seed_image"] == {"accuracy": 75}
    assert report.findings.unmatched == {
        "ids that are the same number written otherwise": ["0 as 0000", "1.0 as 0001", "3 as 0003"]
    }


@pytest.mark.parametrize("name", ["image", "image_path", "file_name", "filename", "image_id"])
@pytest.mark.parametrize("form", ["{}.jpg", "photos/{}.jpg", "C:\\photos\\{}.jpg", "..\\{}.png"])
def test_captions_are_known_by_an_image_s_name(tmp_path: Path, name: str, form: str) -> None:
    images = [{"filename": f"{n}.jpg", "split": "test", "sentences": [{"raw": f"A {n} on grass."}]} for n in (11, 12)]
    (tmp_path / "dataset_flickr30k.json").write_text(json.dumps({"images": images}))
    said = [{name: form.format(n), "caption": f"A {n} on grass."} for n in (12, 11)]
    report = score("flickr30k", jsonl(tmp_path / "a.jsonl", said), annotations=tmp_path / "dataset_flickr30k.json")
    assert report.metrics["caption"]["rouge_l"] == 100
