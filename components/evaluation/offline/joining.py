"""Joining answers to the questions they belong to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

from components.errors import UserError
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import bare
from components.evaluation.question import Question

_OTHER_WORDS = 0.1  # of answers without ids may differ from their questions: published files spell some otherwise


def id_asked(question: Question) -> Hashable:
    return question.id


def id_given(answer: Given) -> Hashable:
    return answer.id


def join(
    asked: Sequence[Question],
    given: Sequence[Given],
    key_asked: Callable[[Question], Hashable],
    key_given: Callable[[Given], Hashable],
    path: Path,
    findings: Findings,
) -> list[str | None]:
    """The answer to each question, None where there is none.

    An answer that stands twice counts once; of several different ones to a question the last counts, as in
    LLaVA's own scripts, and that is told. Answers to no question are listed. Where nothing fits at all, the files
    do not belong together. Where one id stands for different questions, the answers' prompts tell them apart.
    """
    _in_order(asked, given, path, findings)
    key_asked, key_given = _telling_apart(asked, given, key_asked, key_given, path)
    known = {key_asked(question) for question in asked}
    if len(known) < len(asked):
        findings.say(f"{len(asked) - len(known)} questions repeat another's id and words; one answer serves both")
    answers: dict[Hashable, str] = {}
    strangers, alike, changed = [], 0, []
    for answer in given:
        key = key_given(answer)
        if key not in known:
            strangers.append(answer.id)
            continue
        if key in answers:
            alike += answers[key] == answer.text
            changed += [answer.id] if answers[key] != answer.text else []
        answers[key] = answer.text
    if not answers:
        raise UserError(
            f"{path}: none of its {len(given)} answers (the first is to {given[0].id!r}) belongs to one of the "
            f"{len(asked)} questions (the first is {asked[0].id!r}); are these files of one benchmark?"
        )
    if alike:
        findings.say(f"{path}: {alike} answers stand there twice, alike; each counts once")
    findings.leave("repeated ids", changed, f"{path} gives them different answers; the last one counts")
    findings.leave("answers without a question", strangers, f"{path} answers what was not asked; left out")
    return [answers.get(key_asked(question)) for question in asked]


def _in_order(asked: Sequence[Question], given: Sequence[Given], path: Path, findings: Findings) -> None:
    """Answers that are known by their place alone must repeat the words of the question in that place."""
    words = {question.id: bare(question.text).casefold() for question in asked}
    counted = [answer for answer in given if answer.counted and answer.prompt and answer.id in words]
    other = [answer for answer in counted if words[answer.id] not in bare(answer.prompt).casefold()]
    if len(other) > _OTHER_WORDS * len(counted):
        one = other[0]
        raise UserError(
            f"{path}: its answers have no ids and stand in another order than the questions: answer {one.id} is "
            f"to {one.prompt[:80]!r}, question {one.id} is {words[one.id][:80]!r}; add question_id"
        )
    findings.leave("answers in other words", [answer.id for answer in other], f"{path}: counted as to that question")


def _telling_apart(
    asked: Sequence[Question],
    given: Sequence[Given],
    key_asked: Callable[[Question], Hashable],
    key_given: Callable[[Given], Hashable],
    path: Path,
) -> tuple[Callable[[Question], Hashable], Callable[[Given], Hashable]]:
    """The same keys; with the question's words beside them where one key stands for several questions."""
    words: dict[Hashable, set[str]] = defaultdict(set)
    for question in asked:
        words[key_asked(question)].add(bare(question.text))
    shared = {key for key, texts in words.items() if len(texts) > 1}
    if not shared:
        return key_asked, key_given
    if not any(answer.prompt for answer in given if key_given(answer) in shared):
        raise UserError(
            f"{path}: {len(shared)} ids stand for different questions ({next(iter(shared))} is one), and answers "
            "without a prompt do not tell which is meant; give answers with their prompts"
        )
    return (
        lambda question: (key_asked(question), bare(question.text)),
        lambda answer: (key_given(answer), bare(answer.prompt)),
    )
