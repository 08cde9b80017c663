"""Having answers graded by a judge, and the file in which its grades are kept.

    {question_id, category, judge, model, date, digest, content, score or tuple}       one line for each reply

`judge` is the model that was called, `model` the name in its reply, `content` the raw reply; a reply that is no grade
keeps its line, with null for a grade, and is requested again next time. Lines are written as replies come, so a grading
that was stopped continues where it ended. Grades of other answers are moved to `.earlier.jsonl`, and found there.
The digest covers judge, instructions, question and answer, so that a changed answer is graded anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.digests import digest
from components.errors import UserError
from components.evaluation.benchmarks import Judged
from components.evaluation.judge.endpoint import Judge, JudgeAway
from components.evaluation.judge.grades import Request, numbers
from components.files import write_text
from components.progress import Bar


def grades_file(answers: Path, judge: str) -> Path:
    """Beside the answers: one file for each judge."""
    return answers.with_name(f"{answers.stem}.graded-by-{re.sub(r'[^A-Za-z0-9._-]+', '-', judge)}.jsonl")


def how_of(bench: Judged) -> dict[str, Any]:
    """How a benchmark's judge is called and its replies are read."""
    return {
        "parse": bench.parse,
        "system": bench.SYSTEM,
        "temperature": bench.TEMPERATURE,
        "max_tokens": bench.MAX_TOKENS,
    }


def grade(
    requests: Iterable[Request], judge: Judge, path: Path, parse: Callable[[str], dict[str, Any] | None], **how: Any
) -> None:
    """Grade what `path` does not hold yet. `how`: system, temperature, max_tokens."""
    wanted = {digest([judge.model, request.id, request.message]): request for request in requests}
    if not wanted:
        raise UserError("no answer belongs to a question; there is nothing to grade")
    kept = _keep(wanted, path)
    left = {key: request for key, request in wanted.items() if key not in kept}
    with Bar(f"grading by {judge.model}", total=len(left)) as bar, path.open("a", encoding="utf-8") as stream:
        for key, request in left.items():
            try:
                reply, model = judge.ask(request.message, **how)
            except JudgeAway as away:
                done = len(kept) + bar.done
                raise UserError(
                    f"{away}; {done} of {len(wanted)} grades are in {path}; run the same command again to go on"
                ) from None
            line = {
                "question_id": request.id,
                "category": request.category,
                "judge": judge.model,
                "model": model,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "digest": key,
                "content": reply,
                **(parse(reply) or {"score": None}),
            }
            stream.write(_lines([line]))
            stream.flush()
            bar.at(bar.done + 1)


def _keep(wanted: Iterable[str], path: Path) -> set[str]:
    """Leave the wanted grades in `path` and move its other lines to `.earlier.jsonl`; the digests that are there."""
    present, earlier = _lines_of(path), _earlier(path)
    if not present and path.exists() and path.read_bytes().strip():
        raise UserError(f"{path} holds something other than grades that were kept here; name another file for --grades")
    known = {key: line for key, line in (_lines_of(earlier) | present).items() if _has_grade(line)}
    kept = {key: known[key] for key in wanted if key in known}
    with earlier.open("a", encoding="utf-8") as stream:
        stream.write(_lines(line for key, line in present.items() if key not in kept))
    write_text(path, _lines(kept.values()))
    return set(kept)


def _earlier(path: Path) -> Path:
    return path.with_suffix(".earlier.jsonl")


def _has_grade(line: dict[str, Any]) -> bool:
    values = line["tuple"] if isinstance(line.get("tuple"), list) else [line.get("score")]
    return isinstance(line.get("question_id"), str) and numbers(values, 0, 10) is not None


def _lines_of(path: Path) -> dict[str, dict[str, Any]]:
    """Digest -> line; what is no such line, as a kill cuts the last one short, is requested again."""
    lines = {}
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            with suppress(ValueError, RecursionError):
                line = json.loads(text)
                if isinstance(line, dict) and isinstance(line.get("digest"), str):
                    lines[line["digest"]] = line
    return lines


def _lines(records: Iterable[dict[str, Any]]) -> str:
    """In ASCII: whatever a judge replies can be written, and none of its characters breaks a line."""
    return "".join(json.dumps(record) + "\n" for record in records)
