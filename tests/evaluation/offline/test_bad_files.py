"""Files that repeat, that are of another benchmark, or that lack what a benchmark needs."""

import json
from pathlib import Path

import pytest

from components.errors import UserError
from tests.evaluation.offline.layouts import LABELS, SAID, jsonl, mme, mme_answers, pope, scienceqa, score


def test_repeated_ids_count_once_and_are_reported(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.json", [{"question_id": str(n), "gt_answer": "A"} for n in range(2)])
    given = [("0", "A"), ("0", "A"), ("1", "A"), ("1", "B")]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": text} for id, text in given])
    report = score("seed_bench", answers, annotations=gold)
    assert report.metrics["seed_image"]["accuracy"] == 50
    assert report.findings.unmatched["repeated ids"] == ["1"]
    assert any("1 answers stand there twice, alike" in line for line in report.findings.lines)


def test_repeated_questions_are_reported(tmp_path: Path) -> None:
    _, test = scienceqa(tmp_path / "sqa")
    test.write_text(json.dumps(json.loads(test.read_text()) * 2))
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": id, "text": "A"} for id in ("1", "2")])
    report = score("scienceqa", answers, annotations=test)
    assert report.questions == 4
    assert any("2 questions repeat another's id" in line for line in report.findings.lines)


def test_files_of_another_benchmark_are_refused(tmp_path: Path) -> None:
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    other = mme_answers(tmp_path / "mme.jsonl", SAID)
    with pytest.raises(UserError, match="are these files of one benchmark"):
        score("pope", other, **files)
    with pytest.raises(UserError, match="holds no label file of POPE"):
        score("pope", other, questions=files["questions"], annotations=mme(tmp_path / "gt"))
    with pytest.raises(UserError, match="holds no ground truth of MME"):
        score("mme", other, annotations=files["annotations"])
    with pytest.raises(UserError, match="holds no gold of SEED-Bench"):
        score("seed_bench", other, annotations=files["questions"])
    with pytest.raises(UserError, match="give --judge"):
        score("mm_vet", other)
    with pytest.raises(UserError, match="give --judge"):
        score("llava_bench", other)


def test_what_a_benchmark_needs_is_named(tmp_path: Path) -> None:
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": 1, "text": "A"}])
    for name in ("unifood", "scienceqa", "flickr30k", "pope", "mme", "mmbench", "seed_bench"):
        with pytest.raises(UserError, match=f"{name} needs --(questions|annotations)"):
            score(name, answers)
    with pytest.raises(UserError, match="--rule nonsense: seed_bench knows llava, lmms_eval"):
        score("seed_bench", answers, "nonsense", annotations=answers)


def test_a_file_of_which_hardly_any_answer_belongs_to_a_question_is_refused(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.json", [{"question_id": str(n), "gt_answer": "A"} for n in range(100)])
    few = [{"question_id": n, "text": "A"} for n in (*range(95, 100), *range(300, 395))]
    with pytest.raises(UserError, match=r"5 of its 100 answers \(the first is to '95'\) belong to one of the 100"):
        score("seed_bench", jsonl(tmp_path / "a.jsonl", few), annotations=gold)
    many = jsonl(tmp_path / "b.jsonl", [{"question_id": n, "text": "A"} for n in range(2000)])
    assert score("seed_bench", many, annotations=gold).metrics["seed_image"] == {"accuracy": 100}
    assert score("seed_bench", jsonl(tmp_path / "c.jsonl", few[:5]), annotations=gold).answered == [5]
