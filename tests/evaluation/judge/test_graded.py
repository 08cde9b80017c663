"""MM-Vet and LLaVA-Bench: what a judge has graded, put together; figures worked out by hand."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.evaluation.offline.printing import as_json
from tests.evaluation.offline.layouts import jsonl, score


def test_mm_vet_is_the_mean_over_runs(tmp_path: Path) -> None:
    grades = {
        "v1_0": {"model": ["gpt-4", "gpt-4"], "content": ["1.0", "0.5"], "score": [1.0, 0.5]},
        "v1_1": {"model": ["gpt-4", "gpt-4"], "content": ["0.0", "0.1"], "score": [0.0, 0.1]},
    }
    path = tmp_path / "grade-2runs.json"
    path.write_text(json.dumps(grades, indent=4))
    gold = tmp_path / "mm-vet.json"
    skills = {"v1_0": ["ocr", "math"], "v1_1": ["ocr"]}
    gold.write_text(
        json.dumps({id: {"question": "What?", "answer": "1", "capability": of} for id, of in skills.items()})
    )
    assert score("mm_vet", path).metrics["mm_vet"] == pytest.approx({"score": 40, "std": 10})
    metrics = score("mm_vet", path, annotations=gold).metrics
    assert metrics["mm_vet_ocr"]["score"] == pytest.approx(40)
    assert metrics["mm_vet_math"]["score"] == pytest.approx(75)


def test_mm_vet_counts_the_grades_of_its_questions(tmp_path: Path) -> None:
    gold = tmp_path / "mm-vet.json"
    gold.write_text(json.dumps({"v1_0": {"question": "What?", "answer": "1", "capability": None}}))
    grades = jsonl(tmp_path / "g.jsonl", [{"question_id": f"v1_{n}", "score": n} for n in (0, 1)])
    report = score("mm_vet", grades, annotations=gold)
    assert (report.questions, report.answered, as_json(report)["missing"]["count"]) == (1, [1], 0)
    assert report.findings.unmatched == {"grades without a question": ["v1_1"]}
    assert any("not known" in line for line in score("mm_vet", grades).findings.lines)


@pytest.mark.parametrize(
    ("name", "key", "grade"), [("mm_vet", "score", [0.0, 1.0]), ("llava_bench", "tuple", [[8, 4], [8, 8]])]
)
def test_grades_that_stand_twice_are_reported(name: str, key: str, grade: list[Any], tmp_path: Path) -> None:
    path = jsonl(tmp_path / "g.jsonl", [{"question_id": "v1_0", key: one} for one in grade])
    report = score(name, path)
    assert report.findings.unmatched["repeated ids"] == ["v1_0"]
    assert report.metrics[name]["score"] == {"mm_vet": 100, "llava_bench": 75}[name]


def reviews(path: Path, pairs: list[list[float] | None]) -> Path:
    names = ["conv", "detail", "complex"]
    return jsonl(
        path,
        [
            {"question_id": n, "category": f"llava_bench_{names[n % 3]}", "content": "..", "tuple": pair or [-1, -1]}
            for n, pair in enumerate(pairs)
        ],
    )


def test_llava_bench_is_a_ratio_of_means_averaged_over_files(tmp_path: Path) -> None:
    first = reviews(tmp_path / "eval1.jsonl", [[10, 5], [8, 8], [6, 3]])
    second = reviews(tmp_path / "eval2.jsonl", [[10, 10], [10, 10], [10, 10]])
    report = score("llava_bench", [first, second])
    assert report.metrics["llava_bench"]["score"] == pytest.approx((100 * 16 / 24 + 100) / 2)
    assert report.metrics["llava_bench_conv"]["score"] == pytest.approx(75)
    assert [m["llava_bench"]["score"] for m in report.each] == pytest.approx([100 * 16 / 24, 100])


def test_llava_bench_leaves_out_failed_reviews_and_says_so(tmp_path: Path) -> None:
    path = reviews(tmp_path / "eval.jsonl", [[10, 5], None])
    report = score("llava_bench", path)
    assert report.metrics["llava_bench"]["score"] == 50
    assert report.findings.unmatched["replies without two grades"] == ["1"]
    as_summarised = score("llava_bench", path, "summarize").metrics["llava_bench"]["score"]
    assert as_summarised == pytest.approx(100 * (5 - 1) / (10 - 1))


GRADES = [0.5, 1.0, 0.0]


def sheet(path: Path, rows: list[dict[str, Any]], form: str) -> Path:
    """A table as VLMEvalKit writes it; numbers become texts in the delimited ones."""
    frame = pd.DataFrame(rows)
    if form == "xlsx":
        frame.to_excel(path, index=False)
    elif form == "json":
        frame.to_json(path, orient="records")
    else:
        frame.to_csv(path, sep="\t", index=False)
    return path


@pytest.mark.parametrize("form", ["xlsx", "tsv", "json"])
def test_grades_of_vlmevalkit_are_read(form: str, tmp_path: Path) -> None:
    rows = [{"index": n, "question": "Q", "prediction": "x", "score": one} for n, one in enumerate(GRADES)]
    rows = [row | {"log": "Succeed" if n < 2 else "Try 0: ..\nAll 5 retries failed.\n"} for n, row in enumerate(rows)]
    report = score("mm_vet", sheet(tmp_path / "MMVet_judge", rows, form))
    assert report.metrics["mm_vet"]["score"] == pytest.approx(50)
    assert report.findings.unmatched == {"replies that are no grade": ["2"]}
    pairs = [
        {"index": n, "category": "conv", "prediction": "x", "gpt4_score": 8, "score": model}
        for n, model in enumerate((4, 8, -1))
    ]
    report = score("llava_bench", sheet(tmp_path / "LLaVABench_openai_result", pairs, form))
    assert report.metrics["llava_bench"] == report.metrics["llava_bench_conv"]
    assert report.metrics["llava_bench"]["score"] == 75
    assert report.findings.unmatched["replies without two grades"] == ["2"]


def test_grades_in_samples_of_lmms_eval_are_read(tmp_path: Path) -> None:
    graded = [
        {
            "doc_id": n,
            "filtered_resps": "x",
            "gpt_eval_score": {"question_id": f"v1_{n}", "score": one, "eval_model": "j"},
        }
        for n, one in enumerate(GRADES)
    ]
    assert score("mm_vet", jsonl(tmp_path / "a.jsonl", graded)).metrics["mm_vet"]["score"] == pytest.approx(50)
    left_out = {"scores": [-999, -999], "category": "llava_bench_conv"}
    pairs = [
        {
            "doc_id": n,
            "gpt_eval_llava_detail": left_out,
            "gpt_eval_llava_all": {"scores": [8, model], "category": "llava_bench_conv", "eval_model": "j"},
        }
        for n, model in enumerate((4, 8))
    ]
    report = score("llava_bench", jsonl(tmp_path / "b.jsonl", pairs))
    assert report.metrics["llava_bench"]["score"] == report.metrics["llava_bench_conv"]["score"] == 75


def test_numbers_in_quotes_are_grades(tmp_path: Path) -> None:
    path = tmp_path / "g.json"
    path.write_text(
        json.dumps({f"v1_{n}": {"score": [str(one)]} for n, one in enumerate(GRADES)} | {"v1_9": {"score": ["x"]}})
    )
    report = score("mm_vet", path)
    assert report.metrics["mm_vet"]["score"] == pytest.approx(50)
    assert report.findings.unmatched == {"replies that are no grade": ["v1_9"]}
