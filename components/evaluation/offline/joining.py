"""Joining answers to the questions they belong to: by id, or by the question's words where the ids contradict them.

Answers often repeat their question. Where these words are another question's than the id's, the ids are of another
numbering (VLMEvalKit counts POPE from 0, LLaVA does not): such answers are joined by image and words if that names
the question, and refused if it does not.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from components.data.schema import IMAGE_MARKER
from components.errors import UserError
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import bare, stem
from components.evaluation.question import Question

OTHER_WORDS = 0.1  # of the answers may differ in words from their questions: published files spell some otherwise
_LONG = 12  # words; a longer prompt (with context and options) may differ in some of them
_SAME_WORDS = 0.8  # .. but has this share

QuestionKey = Callable[[Question], Hashable]
AnswerKey = Callable[[Given], Hashable]


def question_id(question: Question) -> Hashable:
    return question.id


def answer_id(answer: Given) -> Hashable:
    return answer.id


def join(
    questions: Sequence[Question],
    given: Sequence[Given],
    question_key: QuestionKey,
    answer_key: AnswerKey,
    path: Path,
    findings: Findings,
) -> list[str | None]:
    """The answer to each question, None where there is none.

    An answer that stands twice counts once; of several different ones to a question the last counts, as in
    LLaVA's own scripts, and that is reported. Answers to no question are listed. Where one id stands for different
    questions, the answers' words decide. UserError where nothing fits, or words and ids contradict each other.
    """
    _check_order(questions, given, path, findings)
    question_key, answer_key = _unambiguous(questions, given, question_key, answer_key, path)
    keys = [question_key(question) for question in questions]
    if len(set(keys)) < len(keys):
        findings.note(f"{len(keys) - len(set(keys))} questions repeat another's id and words; one answer serves both")
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    targets = _targets(questions, given, [places.get(answer_key(one), []) for one in given], path, findings)
    if not any(targets):
        raise UserError(
            f"{path}: none of its {len(given)} answers (the first is to {given[0].id!r}) belongs to one of the "
            f"{len(questions)} questions (the first is {questions[0].id!r}); are these files of one benchmark?"
        )
    return _assigned(len(questions), given, targets, path, findings)


def _assigned(
    number: int, given: Sequence[Given], targets: Sequence[Sequence[int]], path: Path, findings: Findings
) -> list[str | None]:
    """Answers by question; repeated ones and those without a question are reported."""
    answers: list[str | None] = [None] * number
    unknown, alike, changed = [], 0, []
    for answer, places in zip(given, targets, strict=True):
        if not places:
            unknown.append(answer.id)
            continue
        before = answers[places[0]]
        alike += before == answer.text
        changed += [answer.id] if before not in (None, answer.text) else []
        for place in places:
            answers[place] = answer.text
    if alike:
        findings.note(f"{path}: {alike} answers stand there twice, alike; each counts once")
    findings.count("repeated ids", changed, f"{path} gives them different answers; the last one counts")
    findings.count("answers without a question", unknown, f"{path}: left out")
    return answers


def _targets(
    questions: Sequence[Question],
    given: Sequence[Given],
    by_id: Sequence[list[int]],
    path: Path,
    findings: Findings,
) -> Sequence[list[int]]:
    """The places of each answer's questions: those of its id, unless it repeats the words of another question."""
    index = _Index.of(questions)
    repeating = [n for n, answer in enumerate(given) if not answer.counted and plain_words(answer.prompt)]
    if len(index.by_words) < 2 or not repeating:  # all questions read alike, or no answer repeats its question
        _check_shift(questions, given, path)
        return by_id
    known = [n for n in repeating if by_id[n]]
    wrong = {n for n in known if not any(index.agrees(given[n].prompt, place) for place in by_id[n])}
    if known and not wrong:
        return by_id
    by_words = {n: index.find(given[n]) for n in repeating}
    if known and len(wrong) <= OTHER_WORDS * len(known):
        findings.count(
            "answers in other words",
            [given[n].id for n in sorted(wrong)],
            f"{path}: their words are not those of the question with their id; joined by the words where these are "
            "one question's, else left out",
        )
        return [(by_words[n] or []) if n in wrong else places for n, places in enumerate(by_id)]
    found = sum(bool(places) for places in by_words.values())
    reached = len({place for places in by_words.values() for place in places or []})
    if found < (1 - OTHER_WORDS) * len(given) and reached < (1 - OTHER_WORDS) * len(questions):
        if not known:
            return by_id
        first = min(wrong)
        _refuse(questions, given[first], questions[by_id[first][0]], by_words[first] is None, path)
    findings.note(f"{path}: its ids are not those of the questions; answers were joined by image and words")
    return [by_words.get(n) or [] for n in range(len(given))]


def _refuse(questions: Sequence[Question], answer: Given, question: Question, ambiguous: bool, path: Path) -> None:
    why = (
        "the words alone stand for several questions"
        if ambiguous
        else f"its words are those of none of the {len(questions)} questions"
    )
    raise UserError(
        f"{path}: ids and words contradict each other: answer {answer.id} is to {answer.prompt[:80]!r}, question "
        f"{question.id} is {bare(question.text)[:80]!r}, and {why}; give the question file that the ids belong to, "
        "or the image's name in a column image_path (answers without prompt or question are joined by id alone)"
    )


def plain_words(text: str) -> str:
    """Words of a question in lower case, without the image's marker, the benchmarks' requests and punctuation."""
    return " ".join(re.findall(r"\w+", bare(text.replace(IMAGE_MARKER, " ")).casefold()))


@dataclass(frozen=True)
class _Index:
    """`by_words`: words -> places of the questions that read so."""

    questions: Sequence[Question]
    words: list[str]
    by_words: dict[str, list[int]]

    @classmethod
    def of(cls, questions: Sequence[Question]) -> _Index:
        words = [plain_words(question.text) for question in questions]
        by_words: dict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(words):
            by_words[text].append(place)
        return cls(questions, words, dict(by_words))

    def agrees(self, prompt: str, place: int) -> bool:
        """One holds the other's words, in order or in another layout; of long prompts nearly all of them."""
        prompt_words, text = plain_words(prompt), self.words[place]
        if not text or f" {text} " in f" {prompt_words} " or f" {prompt_words} " in f" {text} ":
            return True
        one, other = set(prompt_words.split()), set(text.split())
        fewer = min(len(one), len(other))
        share = _SAME_WORDS if fewer >= _LONG else 1.0
        return prompt_words not in self.by_words and len(one & other) >= share * fewer

    def find(self, answer: Given) -> list[int] | None:
        """Places of the one question (perhaps of several categories) that has the answer's words and image.

        Empty where there is none, None where there are several.
        """
        places = self.by_words.get(plain_words(answer.prompt), [])
        if answer.image:
            places = [place for place in places if stem(self.questions[place].image_name or "") == stem(answer.image)]
        categories = [part.strip() for part in answer.category.split(",")]
        named = [p for p in places if self.questions[p].task.partition("_")[2] in categories]
        places = named or places
        same = {(self.questions[p].image_name, self.questions[p].group) for p in places}
        return places if len(same) < 2 else None


def _check_order(questions: Sequence[Question], given: Sequence[Given], path: Path, findings: Findings) -> None:
    """Answers that are known by their place alone must repeat the words of the question in that place."""
    words = {question.id: plain_words(question.text) for question in questions}
    counted = [answer for answer in given if answer.counted and answer.prompt and answer.id in words]
    other = [answer for answer in counted if words[answer.id] not in plain_words(answer.prompt)]
    if len(other) > OTHER_WORDS * len(counted):
        one = other[0]
        raise UserError(
            f"{path}: its answers have no ids and stand in another order than the questions: answer {one.id} is "
            f"to {one.prompt[:80]!r}, question {one.id} is {words[one.id][:80]!r}; add question_id"
        )
    findings.count("answers in other words", [answer.id for answer in other], f"{path}: counted as to that question")


def _check_shift(questions: Sequence[Question], given: Sequence[Given], path: Path) -> None:
    """Numbers that are all off by the same are another numbering, though all but one of them name a question."""
    ours, theirs = {question.id for question in questions}, {answer.id for answer in given}
    if ours == theirs or len(ours) != len(theirs) or not all(id.isdecimal() for id in ours | theirs):
        return
    asked, answered = sorted(map(int, ours)), sorted(map(int, theirs))
    if len({mine - its for mine, its in zip(asked, answered, strict=True)}) == 1:
        raise UserError(
            f"{path}: its ids run from {answered[0]} to {answered[-1]}, those of the questions from {asked[0]} to "
            f"{asked[-1]}: another numbering; number them alike, or give each answer its prompt"
        )


def _unambiguous(
    questions: Sequence[Question], given: Sequence[Given], question_key: QuestionKey, answer_key: AnswerKey, path: Path
) -> tuple[QuestionKey, AnswerKey]:
    """The same keys; with the question's words beside them where one key stands for several questions."""
    words: dict[Hashable, set[str]] = defaultdict(set)
    for question in questions:
        words[question_key(question)].add(plain_words(question.text))
    shared = {key for key, texts in words.items() if len(texts) > 1}
    if not shared:
        return question_key, answer_key
    if not any(answer.prompt for answer in given if answer_key(answer) in shared):
        raise UserError(
            f"{path}: {len(shared)} ids stand for different questions ({next(iter(shared))} is one), and answers "
            "without a prompt leave open which is meant; give answers with their prompts"
        )
    return (
        lambda question: (question_key(question), plain_words(question.text)),
        lambda answer: (answer_key(answer), plain_words(answer.prompt)),
    )
