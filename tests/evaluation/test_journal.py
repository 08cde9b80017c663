from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.evaluation import answering
from components.evaluation.asking import ask
from components.evaluation.journal import Journal
from components.evaluation.question import Question

HERE = Question("1", "b", "chat", "what?", ("x",), image=b"1", image_hash="h1")
OTHERS = [replace(HERE, image_hash="h2"), replace(HERE, text="who?"), replace(HERE, image=None, image_hash=None)]


def test_answers_are_found_again_by_what_was_asked(tmp_path: Path) -> None:
    Journal(tmp_path / "a" / "answers.jsonl", 20).add([(HERE, "größer\nthan one line")])
    again = Journal(tmp_path / "a" / "answers.jsonl", 20)
    assert again.get(HERE) == "größer\nthan one line"
    assert again.get(replace(HERE, id="2", benchmark="c")) == again.get(HERE)
    assert [again.get(other) for other in OTHERS] == [None] * 3
    assert Journal(tmp_path / "a" / "answers.jsonl", 21).get(HERE) is None


def test_line_cut_short_by_a_kill_is_dropped_and_written_again(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Journal(path, 20).add([(HERE, "one"), (OTHERS[0], "two")])
    path.write_bytes(path.read_bytes()[:-9])
    journal = Journal(path, 20)
    assert (journal.get(HERE), journal.get(OTHERS[0])) == ("one", None)
    journal.add([(OTHERS[0], "two")])
    assert len(Journal(path, 20)) == 2


class Killed(Exception):
    pass


def test_killed_evaluation_goes_on_without_asking_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [replace(HERE, text=f"question {number}") for number in range(6)]
    seen: list[str] = []
    dies_after = 4

    def answers(assistant: object, left: list[Question], *, batch: int, **settings: int) -> Any:
        for start in range(0, len(left), batch):
            if len(seen) >= dies_after:
                raise Killed
            seen.extend(question.text for question in left[start : start + batch])
            yield {start + n: f"to {question.text}" for n, question in enumerate(left[start : start + batch])}

    monkeypatch.setattr(answering, "answers_by_batch", answers)

    def run() -> list[str]:
        journal = Journal(tmp_path / "answers.jsonl", 20)
        return ask(object, asked, journal, what="test", batch=2, max_pixels=1)  # type: ignore[arg-type]

    with pytest.raises(Killed):
        run()
    dies_after = 100
    assert run() == [f"to question {number}" for number in range(6)]
    assert seen == [question.text for question in asked], "each was asked once"


def test_model_is_not_loaded_when_everything_is_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "answers.jsonl", 20)
    journal.add([(HERE, "known")])

    def load() -> Any:
        raise AssertionError("loaded")

    assert ask(load, [HERE], journal, what="test", batch=2, max_pixels=1) == ["known"]
