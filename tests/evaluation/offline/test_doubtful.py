"""Answers that count by the rule and may mislead are counted, with the figures that would stand without them."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.evaluation.benchmarks import mm_vet
from components.evaluation.offline.doubtful import after_trace
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import Files
from components.evaluation.offline.scoring import Report
from tests.evaluation.offline.layouts import LABELS, jsonl, pope, scienceqa, score


def answered(folder: Path, form: str) -> Report:
    """POPE's three questions, answered right inside `form`."""
    files: dict[str, Any] = pope(folder, [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    said = [{"question_id": 100 + n, "text": form.format(label)} for n, (_, _, label) in enumerate(LABELS)]
    return score("pope", jsonl(folder / "a.jsonl", said), **files)


def line(report: Report, words: str) -> str:
    return next(line for line in report.findings.lines if words in line)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>no</think>\nyes", "yes"),
        ("no\n</think>\n\nyes", "yes"),  # templates that begin the trace themselves
        ("<think>a <think> b</think> c</thinking> yes ", "yes"),
        ("\u25c1think\u25b7no\u25c1/think\u25b7yes", "yes"),
        ("<THINK>no</THINK><answer> yes </answer>.", "yes"),
        ("<answer>yes", "yes"),
        ("<think>no <answer>yes</answer>", "yes"),
        ("<think>It is not", ""),
        ("I think no", "I think no"),
        ("a < b > c", "a < b > c"),
    ],
)
def test_what_follows_a_trace(text: str, rest: str) -> None:
    assert after_trace(text) == rest


def test_a_trace_is_read_by_the_rule_and_said_with_the_figures_without_it(tmp_path: Path) -> None:
    report = answered(tmp_path, "<think>It is not sure</think> {}")
    assert report.metrics["pope"] == {"f1": 0, "accuracy": pytest.approx(100 / 3)}
    assert len(report.findings.unmatched["answers with a reasoning trace"]) == 3
    assert "the rule llava reads them whole; of what stands after it" in line(report, "reasoning trace")
    assert "pope f1 100.00, accuracy 100.00" in line(report, "reasoning trace")


def test_a_trace_that_never_ends_is_said(tmp_path: Path) -> None:
    assert "(3 hold nothing else)" in line(answered(tmp_path, "<think>Is it {}"), "reasoning trace")


@pytest.mark.parametrize("token", ["</s>", "<|im_end|>", "<|endoftext|>", "<end_of_utterance>"])
def test_special_tokens_are_said_with_the_figures_without_them(tmp_path: Path, token: str) -> None:
    report = answered(tmp_path, f"{{}}{token}")
    assert len(report.findings.unmatched["answers with special tokens"]) == 3
    assert "without these the figures are pope f1 100.00, accuracy 100.00" in line(report, "special tokens")


def test_answers_without_a_trace_have_no_line(tmp_path: Path) -> None:
    assert not [
        kind for kind in answered(tmp_path, "{}").findings.unmatched if "answers with" in kind or "otherwise" in kind
    ]


def test_yes_with_not_behind_it_is_no_by_llavas_rule_and_said(tmp_path: Path) -> None:
    report = answered(tmp_path, "{}, though it is not near.")
    assert report.metrics["pope"]["f1"] == 0
    assert report.findings.unmatched["answers that vlmevalkit reads otherwise"] == ["100", "102"]


def test_a_letter_out_of_a_trace_is_said(tmp_path: Path) -> None:
    gold, _ = scienceqa(tmp_path / "sqa")
    said = [{"question_id": id, "text": f"<think>The answer is A. So.</think>{letter}"} for id, letter in ("1A", "2B")]
    report = score("scienceqa", jsonl(tmp_path / "a.jsonl", said), annotations=gold)
    assert report.metrics["choice"]["accuracy"] == 50
    assert "choice accuracy 100.00" in line(report, "reasoning trace")


def test_failed_requests_are_said_with_the_figures_without_them(tmp_path: Path) -> None:
    images = [
        {"filename": f"{n}.jpg", "split": "test", "sentences": [{"raw": "A dog runs over the grass."}]}
        for n in range(4)
    ]
    gold = tmp_path / "dataset_flickr30k.json"
    gold.write_text(json.dumps({"images": images}))
    said = ["A dog runs over the grass."] * 3 + ["Failed to obtain answer via API. "]
    answers = [{"image_id": f"{n}.jpg", "caption": text} for n, text in enumerate(said)]
    report = score("flickr30k", jsonl(tmp_path / "a.json", answers), annotations=gold)
    assert report.metrics["caption"]["rouge_l"] == pytest.approx(75)
    assert report.findings.unmatched["failed requests"] == ["3.jpg#0"]
    assert "with these left out: caption bleu 100.00, rouge_l 100.00" in line(report, "failed requests")


def test_what_a_judge_is_shown_beside_the_answer_is_said(tmp_path: Path) -> None:
    gold = tmp_path / "mm-vet.json"
    gold.write_text(json.dumps({f"v1_{n}": {"question": f"What is {n}?", "answer": "x"} for n in range(4)}))
    said = ["x", "<think>y</think>x", "x</s>", "Failed to obtain answer via API."]
    answers = jsonl(tmp_path / "a.jsonl", [{"question_id": n, "text": text} for n, text in enumerate(said)])
    findings = Findings()
    assert len(list(mm_vet.to_grade(answers, Files(annotations=gold), None, findings))) == 4
    assert findings.unmatched == {
        "answers with a reasoning trace": ["v1_1"],
        "answers with special tokens": ["v1_2"],
        "failed requests": ["v1_3"],
    }
    assert all("the judge is shown them whole" in line for line in findings.lines)
