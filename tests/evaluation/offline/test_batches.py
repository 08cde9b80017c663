"""Output of batch APIs."""

from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from tests.evaluation.offline.layouts import LABELS, jsonl, pope, score

SAID = ["Yes.", "No, there is none.", "yes"]


def line(id: int, content: Any) -> dict[str, Any]:
    body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}],
    }
    return {"id": f"batch_{id}", "custom_id": str(id), "response": {"status_code": 200, "body": body}, "error": None}


def part(kind: str, text: str) -> dict[str, str]:
    return {"type": kind, "text": text}


FAILED = {
    "an error": {"response": None, "error": {"code": "batch_expired", "message": "too late"}},
    "a refusal": {"response": {"status_code": 400, "body": {"error": {"message": "no"}}}, "error": None},
    "reasoning alone": line(102, None),
}


def files(folder: Path) -> dict[str, Any]:
    return pope(folder / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})


def test_lines_in_any_order_are_scored_as_llavas(tmp_path: Path) -> None:
    llava = jsonl(tmp_path / "a.jsonl", [{"question_id": 100 + n, "text": text} for n, text in enumerate(SAID)])
    said = [{"type": "reasoning", "content": None}, {"type": "message", "content": [part("output_text", SAID[1])]}]
    responses = {**line(101, ""), "response": {"status_code": 200, "body": {"output": said}}}
    batch = jsonl(tmp_path / "b.jsonl", [line(102, [part("text", SAID[2])]), line(100, SAID[0]), responses])
    wanted = score("pope", llava, **files(tmp_path))
    found = score("pope", batch, **files(tmp_path))
    assert found.metrics == wanted.metrics
    assert found.metrics["pope_random"]["f1"] == 100


@pytest.mark.parametrize("failed", list(FAILED.values()), ids=list(FAILED))
def test_a_request_that_failed_answers_nothing(tmp_path: Path, failed: dict[str, Any]) -> None:
    lines = [line(100, SAID[0]), line(101, SAID[1]), {"id": "batch_102", "custom_id": "102", **failed}]
    report = score("pope", jsonl(tmp_path / "b.jsonl", lines), **files(tmp_path))
    assert any("1 records have no id or no text" in note for note in report.findings.lines)


def test_all_requests_failed(tmp_path: Path) -> None:
    lines = [{"id": f"batch_{n}", "custom_id": str(100 + n), **FAILED["an error"]} for n in range(3)]
    with pytest.raises(UserError, match="none of its 3 records holds an answer"):
        score("pope", jsonl(tmp_path / "b.jsonl", lines), **files(tmp_path))


def test_a_record_of_somebodys_own_is_none(tmp_path: Path) -> None:
    own = [
        {"question_id": 100 + n, "text": text, "custom_id": f"r{n}", "error": None, "response": None}
        for n, text in enumerate(SAID)
    ]
    assert score("pope", jsonl(tmp_path / "b.jsonl", own), **files(tmp_path)).metrics["pope_random"]["f1"] == 100
