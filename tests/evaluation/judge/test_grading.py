"""Grading through a real local server that speaks the OpenAI protocol, well and badly."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from components.evaluation.benchmarks import llava_bench, mm_vet
from components.evaluation.judge import endpoint as judging
from components.evaluation.judge.endpoint import Judge, JudgeAway
from components.evaluation.judge.grading import grade, grades_file
from pipelines import cli, stage
from tests.judge_server import Server

HOW: dict[str, Any] = {"system": "", "temperature": 0.0, "max_tokens": 16}


@pytest.fixture
def mmvet(tmp_path: Path) -> tuple[Path, Path]:
    """mm-vet.json of three questions, and LLaVA's answers to them."""
    gold = tmp_path / "mm-vet.json"
    questions = {
        f"v1_{n}": {
            "imagename": f"v1_{n}.png",
            "question": f"What is {n}?",
            "answer": f"{n}<AND>x",
            "capability": ["ocr"],
        }
        for n in range(3)
    }
    gold.write_text(json.dumps(questions))
    answers = tmp_path / "model.jsonl"
    answers.write_text("".join(json.dumps({"question_id": n, "text": f"it is {n}"}) + "\n" for n in range(3)))
    return gold, answers


def lea(*words: str | Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of `lea score`."""
    arguments = cli.parser().parse_args(["score", *map(str, words)])
    code = stage.guarded(lambda: cli.VERBS[arguments.verb].run(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def test_answers_are_graded_and_grades_kept(server: Server, mmvet: tuple[Path, Path], capsys: Any) -> None:
    gold, answers = mmvet
    server.script = lambda number, body: ["1.0", "0.5", "0"][number - 1]
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "gpt/x", "--json")
    code, out, _ = lea(*words, capsys=capsys)
    assert code == 0
    assert json.loads(out)["metrics"]["mm_vet"]["score"] == pytest.approx(50)
    assert server.keys == ["Bearer secret"] * 3
    assert "What is 0?" in server.bodies[0]["messages"][0]["content"]
    assert "0 <AND> x" in server.bodies[0]["messages"][0]["content"]
    assert "it is 0" in server.bodies[0]["messages"][0]["content"]
    kept = grades_file(answers, "gpt/x")
    line = json.loads(kept.read_text().splitlines()[0])
    assert line["judge"] == "gpt/x"
    assert line["model"] == "stand-in-0314"
    assert line["date"].startswith("20")
    assert line["content"] == "1.0"
    # Grades alone are scored without any endpoint.
    code, again, _ = lea("mm_vet", "--answers", kept, "--annotations", gold, "--json", capsys=capsys)
    assert json.loads(again)["metrics"] == json.loads(out)["metrics"]
    assert len(server.bodies) == 3


def test_a_stopped_grading_goes_on_without_asking_again(
    server: Server, mmvet: tuple[Path, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gold, answers = mmvet
    monkeypatch.setattr(judging, "LONGEST_PAUSE_S", 0.001)
    server.script = lambda number, body: "0.5" if number == 1 else (503, {})
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    code, _, err = lea(*words, capsys=capsys)
    assert code == 2
    assert "HTTP 503" in err
    assert "1 of 3 grades are in" in err
    assert "run the same command again" in err
    asked = len(server.bodies)
    assert asked == 1 + judging.TRIES
    with grades_file(answers, "j").open("a") as stream:
        stream.write('{"question_id": "v1_1", "digest": "cut o')  # as a kill leaves it
    server.script = lambda number, body: "1.0"
    code, out, _ = lea(*words, capsys=capsys)
    assert code == 0
    assert len(server.bodies) == asked + 2
    assert "score 83.33" in out


def test_a_changed_answer_is_graded_anew_and_earlier_replies_are_kept(
    server: Server, mmvet: tuple[Path, Path], capsys: Any
) -> None:
    gold, answers = mmvet
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    lea(*words, capsys=capsys)
    answers.write_text(answers.read_text().replace("it is 2", "it is two"))
    server.script = lambda number, body: "1.0"
    _code, out, _ = lea(*words, capsys=capsys)
    assert len(server.bodies) == 4
    assert "score 66.67" in out
    earlier = grades_file(answers, "j").with_suffix(".earlier.jsonl").read_text().splitlines()
    assert [json.loads(line)["question_id"] for line in earlier] == ["v1_2"]


def test_nonsense_is_recorded_and_counted_never_guessed(server: Server, mmvet: tuple[Path, Path], capsys: Any) -> None:
    gold, answers = mmvet
    server.script = lambda number, body: ["1.0", "I would say 0.5", "7"][number - 1]
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    code, out, _ = lea(*words, capsys=capsys)
    assert code == 0
    assert "score 100.00" in out
    assert "2 replies that are no grade" in out
    assert "counted as 0 the score is 33.3" in out
    lines = [json.loads(line) for line in grades_file(answers, "j").read_text().splitlines()]
    assert [line["score"] for line in lines] == [1.0, None, None]
    assert lines[1]["content"] == "I would say 0.5"
    # The next command asks for these two again and keeps what was said before.
    server.script = lambda number, body: "0"
    code, out, _ = lea(*words, capsys=capsys)
    assert (code, len(server.bodies)) == (0, 5)
    assert "score 33.33" in out
    earlier = grades_file(answers, "j").with_suffix(".earlier.jsonl").read_text().splitlines()
    assert [json.loads(line)["content"] for line in earlier] == ["I would say 0.5", "7"]


def test_answers_that_take_turns_are_not_paid_twice(server: Server, mmvet: tuple[Path, Path], capsys: Any) -> None:
    gold, answers = mmvet
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    first = answers.read_text()
    for text, paid in ((first, 3), (first.replace("it is", "is it"), 6), (first, 6)):
        answers.write_text(text)
        assert lea(*words, capsys=capsys)[0] == 0
        assert len(server.bodies) == paid


def test_only_nonsense_cannot_be_scored(server: Server, mmvet: tuple[Path, Path], capsys: Any) -> None:
    gold, answers = mmvet
    server.script = lambda number, body: "hm"
    code, _, err = lea("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j", capsys=capsys)
    assert code == 2
    assert "none of its 3 grades" in err


def test_too_many_requests_are_tried_again_after_the_servers_pause(server: Server) -> None:
    pauses: list[float] = []
    judge = Judge("j", server.url, "", sleep=pauses.append)
    server.script = lambda number, body: [(429, {"Retry-After": "7"}), (500, {}), (429, {}), "ok"][number - 1]
    assert judge.ask("hello", **HOW) == ("ok", "stand-in-0314")
    assert pauses == [7, 2, 4]
    assert server.keys == [None] * 4


def test_a_judge_that_stays_away_or_refuses_is_reported(server: Server, tmp_path: Path) -> None:
    pauses: list[float] = []
    server.script = lambda number, body: (429, {})
    with pytest.raises(JudgeAway, match="HTTP 429"):
        Judge("j", server.url, "", sleep=pauses.append).ask("hello", **HOW)
    assert pauses == [1, 2, 4, 8, 16]
    server.script = lambda number, body: (401, {})
    with pytest.raises(UserError, match=r"refuses the judge j: HTTP 401 status 401"):
        Judge("j", server.url, "secret").ask("hello", **HOW)
    closed = Judge("j", "http://127.0.0.1:9", "", sleep=pauses.append)
    with pytest.raises(JudgeAway, match="refused"):
        closed.ask("hello", **HOW)
    with pytest.raises(UserError, match="nothing to grade"):
        grade([], closed, tmp_path / "grades.jsonl", mm_vet.parse, **HOW)


def test_endpoint_and_judge_must_make_sense(
    monkeypatch: pytest.MonkeyPatch, mmvet: tuple[Path, Path], capsys: Any
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    gold, answers = mmvet
    words = ("--annotations", gold, "--answers", answers, "--judge", "j")
    assert "set OPENAI_BASE_URL" in lea("mm_vet", *words, capsys=capsys)[2]
    assert "a judge grades mm_vet and llava_bench" in lea("pope", *words, capsys=capsys)[2]
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    assert "must begin with http://" in lea("mm_vet", *words, capsys=capsys)[2]


def test_llava_bench_shows_the_judge_context_reference_and_answer(server: Server, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "llava-bench-in-the-wild"
    folder.mkdir()
    files = {
        "questions.jsonl": {"question_id": 0, "image": "001.jpg", "category": "conv", "text": "What is it?"},
        "context.jsonl": {"id": "001", "image": "001.jpg", "caption": "A volcano by the sea."},
        "answers_gpt4.jsonl": {"question_id": 0, "text": "Diamond Head."},
    }
    for name, record in files.items():
        (folder / name).write_text(json.dumps(record) + "\n")
    answers = tmp_path / "model.jsonl"
    answers.write_text(json.dumps({"question_id": 0, "text": "A hill."}))
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Grade both, please.")
    server.script = lambda number, body: "8 6\nThe first is more precise."
    words = [
        "llava_bench",
        "--annotations",
        folder,
        "--answers",
        answers,
        "--judge",
        "j",
        "--grades",
        tmp_path / "g.jsonl",
    ]
    code, out, _ = lea(*words, "--judge-prompt", prompt, "--json", capsys=capsys)
    assert code == 0
    assert json.loads(out)["metrics"]["llava_bench_conv"]["score"] == pytest.approx(75)
    system, user = server.bodies[0]["messages"]
    assert system["content"] == llava_bench.SYSTEM
    for part in ("A volcano by the sea.", "What is it?", "Diamond Head.", "A hill.", "Grade both, please."):
        assert part in user["content"]
    (folder / "context.jsonl").unlink()
    assert "context.jsonl is missing" in lea(*words, capsys=capsys)[2]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("0.5", 0.5),
        ("1", 1.0),
        (" 0.0\n", 0.0),
        ("0.7.\nbecause", 0.7),
        ("0.5 because", 0.5),
        (".5 or 1", 0.5),
        ("0.5\nfine", 0.5),
    ]
    + [(reply, None) for reply in ("I would say 0.5", "0.5: fine", "-1", "1.5", "nan", "5", "")],
)
def test_mm_vet_reply_begins_with_its_grade(reply: str, score: float | None) -> None:
    assert mm_vet.parse(reply) == (None if score is None else {"score": score})


@pytest.mark.parametrize(
    ("reply", "pair"),
    [
        ("8 6\nGood.", [8, 6]),
        ("8, 6", [8, 6]),
        ("8.5 6", [8.5, 6]),
        ("8", None),
        ("8 6 7", None),
        ("A 8", None),
        ("", None),
    ],
)
def test_llava_bench_reply_begins_with_two_numbers(reply: str, pair: list[float] | None) -> None:
    assert llava_bench.parse(reply) == (None if pair is None else {"tuple": pair})


def test_odd_replies_are_kept_and_the_grading_goes_on(
    server: Server, mmvet: tuple[Path, Path], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a character, and one that some take for the end of a line; then a reply that is no text."""
    gold, answers = mmvet
    monkeypatch.setattr(judging, "LONGEST_PAUSE_S", 0.001)
    odd = ["0.5\n\ud83d", "0.5\nfine\u2028indeed"]
    server.script = lambda number, body: odd[number - 1] if number <= 2 else [{"type": "text", "text": "1.0"}]
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    code, _, err = lea(*words, capsys=capsys)
    assert code == 2
    assert "content is no text" in err
    assert "2 of 3 grades are in" in err
    asked = len(server.bodies)
    with grades_file(answers, "j").open("ab") as stream:
        stream.write(b'{"content": "\xc3')  # as a kill leaves it
    server.script = lambda number, body: "0.5"
    code, out, _ = lea(*words, capsys=capsys)
    assert code == 0
    assert "score 50.00" in out
    assert len(server.bodies) == asked + 1


def test_questions_that_read_alike_are_graded_each(server: Server, tmp_path: Path, capsys: Any) -> None:
    """MM-Vet asks some questions about several images."""
    gold, answers = tmp_path / "mm-vet.json", tmp_path / "a.jsonl"
    gold.write_text(json.dumps({f"v1_{n}": {"question": "What is x?", "answer": "2"} for n in range(3)}))
    answers.write_text("".join(json.dumps({"question_id": n, "text": "2"}) + "\n" for n in range(3)))
    _code, out, _ = lea("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j", capsys=capsys)
    assert "3 of 3 graded" in out


def test_a_file_of_something_else_is_not_overwritten_by_grades(
    server: Server, mmvet: tuple[Path, Path], capsys: Any
) -> None:
    gold, answers = mmvet
    before = answers.read_bytes()
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j", "--grades", answers)
    code, _, err = lea(*words, capsys=capsys)
    assert code == 2
    assert "name another file for --grades" in err
    assert answers.read_bytes() == before
    assert server.bodies == []


def test_a_key_with_a_line_s_end_is_sent_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret\r\n")
    monkeypatch.setenv("OPENAI_BASE_URL", " http://localhost/v1/ ")
    judge = Judge.from_environment("j")
    assert (judge.key, judge.url) == ("secret", "http://localhost/v1")


def test_ids_that_are_no_text_are_printed(tmp_path: Path, capsys: Any) -> None:
    gold, answers = tmp_path / "g.jsonl", tmp_path / "a.jsonl"
    gold.write_text('{"question_id": "1", "gt_answer": "A"}')
    answers.write_text('{"question_id": "1", "text": "A"}\n{"question_id": "\\ud83d", "text": "A"}')
    code, out, _ = lea("seed_bench", "--annotations", gold, "--answers", answers, capsys=capsys)
    assert code == 0
    assert "\\ud83d" in out


@pytest.mark.parametrize("name", ["none/g.jsonl", "."])
def test_grades_need_a_folder(name: str, server: Server, mmvet: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    gold, answers = mmvet
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j", "--grades", tmp_path / name)
    code, _, err = lea(*words, capsys=capsys)
    assert code == 2
    assert "must name a file in a folder that exists" in err
    assert server.bodies == []


@pytest.mark.parametrize(
    ("content", "says"), [("Grade \u00e9".encode("latin-1"), "not UTF-8 text (byte 6)"), (b" \n", "is empty")]
)
def test_a_judge_prompt_is_utf8_text(
    content: bytes, says: str, server: Server, mmvet: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    gold, answers = mmvet
    (tmp_path / "prompt.txt").write_bytes(content)
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    code, _, err = lea(*words, "--judge-prompt", tmp_path / "prompt.txt", capsys=capsys)
    assert code == 2
    assert says in err
    assert server.bodies == []


@pytest.mark.parametrize("change", [{"question_id": None}, {"score": "good"}, {"score": [0.5]}, {"score": {}}])
def test_a_malformed_grade_is_asked_for_again(
    change: dict[str, Any], server: Server, mmvet: tuple[Path, Path], capsys: Any
) -> None:
    gold, answers = mmvet
    words = ("mm_vet", "--annotations", gold, "--answers", answers, "--judge", "j")
    lea(*words, capsys=capsys)
    kept = grades_file(answers, "j")
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    kept.write_text("".join(json.dumps(line) + "\n" for line in [lines[0] | change, *lines[1:]]) + "[" * 100_000)
    code, out, _ = lea(*words, capsys=capsys)
    assert (code, len(server.bodies)) == (0, 4)
    assert "3 of 3 graded" in out


def test_an_unknown_benchmark_lists_the_known(capsys: Any) -> None:
    code, _, err = lea("popee", "--answers", "x", capsys=capsys)
    assert code == 2
    assert "'popee'; it knows unifood, scienceqa, flickr30k, pope, mme" in err
