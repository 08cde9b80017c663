import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from components.errors import UserError
from components.evaluation.inference.asking import Batches, ask
from components.evaluation.inference.journal import Answered, Failed, Journal
from components.evaluation.inference.systems import Systems
from components.evaluation.question import Question
from components.files import write_json
from components.params import Params

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


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"\xff\xfe", b"[" * 100_000, b"3", b"null", b"", b'{"answer": "x"}'),
        *(b'{"question": 1, "answer": "x"}', b'{"question": "q", "answer": 5}', b'{"question": ["q"], "answer": "x"}'),
    ],
)
def test_a_malformed_line_is_asked_again(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    Journal(path, 20).add([(HERE, "one")])
    path.write_bytes(line + b"\n" + path.read_bytes())
    journal = Journal(path, 20)
    assert (len(journal), journal.get(HERE)) == (1, "one")


class Killed(BaseException):
    pass


def test_killed_evaluation_goes_on_without_asking_again(tmp_path: Path) -> None:
    asked = [replace(HERE, text=f"question {number}") for number in range(6)]
    seen: list[str] = []
    dies_after = 4

    def batches(left: Sequence[Question]) -> Iterator[dict[int, Answered]]:
        for start in range(0, len(left), 2):
            if len(seen) >= dies_after:
                raise Killed
            seen.extend(question.text for question in left[start : start + 2])
            yield {start + n: f"to {question.text}" for n, question in enumerate(left[start : start + 2])}

    def run() -> list[Answered]:
        return ask(batches, asked, Journal(tmp_path / "answers.jsonl", 20), what="test")

    with pytest.raises(Killed):
        run()
    dies_after = 100
    assert run() == [f"to question {number}" for number in range(6)]
    assert seen == [question.text for question in asked], "each was asked once"


def test_nothing_is_asked_when_everything_is_known(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "answers.jsonl", 20)
    journal.add([(HERE, "known")])

    def batches(left: Sequence[Question]) -> Iterator[dict[int, Answered]]:
        raise AssertionError("asked")

    assert ask(batches, [HERE], journal, what="test") == ["known"]


def failing(*reasons: str | None) -> Batches:
    """Answers in one batch: a failure for each reason, `ok` for each None."""
    return lambda left: iter([{n: Failed(why) if why else "ok" for n, why in enumerate(reasons[: len(left)])}])


def test_failure_is_kept_with_its_reason_reported_and_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, asked = tmp_path / "answers.jsonl", [HERE, *OTHERS]
    assert ask(failing(None, "OSError: torn", None, None), asked, Journal(path, 20), what="test") == [
        "ok",
        Failed("OSError: torn"),
        "ok",
        "ok",
    ]
    assert "test: 1 of 4 questions failed and count as wrong (OSError: torn)" in capsys.readouterr().out
    assert [json.loads(line).get("failed") for line in path.read_text().splitlines()].count("OSError: torn") == 1
    assert len(Journal(path, 20)) == 3
    assert ask(failing(None), asked, Journal(path, 20), what="test") == ["ok"] * 4
    assert "failed" not in capsys.readouterr().out


def test_evaluation_in_which_all_fail_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="test: every one of 4 questions failed, the first with one"):
        ask(failing("one", "two", "one", "one"), [HERE, *OTHERS], Journal(tmp_path / "answers.jsonl", 20), what="test")


def test_answers_of_a_gpu_are_not_taken_for_those_of_a_cpu(tmp_path: Path, params: Params) -> None:
    """CPUs answer in single precision whatever the base is stored in."""
    write_json(tmp_path / "base.json", {"digest": "b", "kind": "tiny", "id": "tiny", "revision": None})
    places = {
        Systems(
            tmp_path, {"base": None}, params.finetune, params.evaluate.model_copy(update={"use_gpu": use_gpu})
        ).state("base")
        for use_gpu in (False, True)
    }
    assert len(places) == 2


@pytest.mark.parametrize("library", ["torch", "transformers", "pillow"])
def test_answers_of_other_libraries_are_not_taken_for_ours(
    library: str, tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components import imports

    write_json(tmp_path / "base.json", {"digest": "b", "kind": "tiny", "id": "tiny", "revision": None})
    before = Systems(tmp_path, {"base": None}, params.finetune, params.evaluate).state("base")
    ours = imports.version
    monkeypatch.setattr(imports, "version", lambda name: "0.0.1" if name == library else ours(name))
    assert Systems(tmp_path, {"base": None}, params.finetune, params.evaluate).state("base") != before
