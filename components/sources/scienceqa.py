"""ScienceQA: problems.json, pid_splits.json beside it, images/<split>/<pid>/image.png. Questions without image too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from components.data.tasks import LETTERS, choice_sample
from components.params import Source
from components.sources.entry import Entry, Malformed, Reject, annotation_files, declared_split, text_of
from components.sources.records import read_object


def read(spec: Source) -> Iterator[Entry | Reject]:
    for path in annotation_files(spec):
        listed = path.with_name("pid_splits.json")
        splits = _split_of_each(read_object(listed)) if listed.is_file() else {}
        for pid, problem in read_object(path).items():
            try:
                if not isinstance(problem, dict):
                    raise Malformed(f"must be an object, found {type(problem).__name__}")
                yield _entry(pid, problem, splits.get(pid) or problem.get("split"))
            except Malformed as error:
                yield Reject(pid, "record_malformed", str(error))


def _split_of_each(lists: dict[str, Any]) -> dict[str, str]:
    """pid_splits.json is {split: [pid, ..]}; mini sets repeat parts of the three and are left out."""
    return {
        str(pid): split
        for split, pids in lists.items()
        if declared_split(split) and isinstance(pids, list)
        for pid in pids
    }


def _entry(pid: str, problem: dict[str, Any], split: Any) -> Entry:
    question, choices, answer = text_of(problem, "question"), problem.get("choices"), problem.get("answer")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise Malformed("choices must be a list of texts")
    if not 2 <= len(choices) <= len(LETTERS):
        raise Malformed(f"choices must be 2 to {len(LETTERS)}, found {len(choices)}")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < len(choices):
        raise Malformed(f"answer must be the number of a choice (0 to {len(choices) - 1}), found {str(answer)[:40]!r}")
    file = problem.get("image") or None
    if file is not None and (not isinstance(file, str) or not isinstance(split, str)):
        raise Malformed("image needs a file name and a split")
    hint = problem.get("hint") or ""
    if not isinstance(hint, str):
        raise Malformed(f"hint must be text, found {type(hint).__name__}")
    sample = choice_sample(pid, question, choices, answer, hint, image=file is not None)
    return Entry(f"{split}/{pid}/{file}" if file else None, f"scienceqa:{pid}", [sample], declared_split(split))
