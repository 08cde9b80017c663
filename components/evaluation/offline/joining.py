"""Joining answers to the questions they belong to: by id, or by the question's words where the ids contradict them.

Answers often repeat their question. Where these words are another question's than the id's, the ids are of another
numbering (VLMEvalKit counts POPE from 0, LLaVA does not): such answers are joined by image and words if that names
the question, and refused if it does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from components.errors import UserError
from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.image_numbers import without_own_numbers
from components.evaluation.offline.questions import bare, plain_words
from components.evaluation.offline.spelling import as_spelt
from components.evaluation.offline.words import Index
from components.evaluation.question import Question
from components.images.endings import has_image_ending

FEWEST = 0.1  # of the answers must belong to a question, or of the questions to an answer
OTHER_WORDS = 0.1  # of the answers may differ in words from their questions: published files spell some otherwise

T = TypeVar("T")
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
    question_key, answer_key = _unambiguous(questions, given, _stripped(question_key), _stripped(answer_key), path)
    keys = [question_key(question) for question in questions]
    if len(set(keys)) < len(keys):
        findings.note(f"{len(keys) - len(set(keys))} questions repeat another's id and words; one answer serves both")
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    answer_keys = as_spelt([answer_key(one) for one in given], places.keys(), path, findings)
    targets = _targets(questions, given, [places.get(key, []) for key in answer_keys], path, findings)
    _check_enough(questions, given, targets, path)
    return _assigned(len(questions), given, targets, path, findings)


def _check_enough(
    questions: Sequence[Question], given: Sequence[Given], targets: Sequence[Sequence[int]], path: Path
) -> None:
    """UserError where hardly any answer belongs to a question: figures of these few would mean nothing."""
    belong = sum(map(bool, targets))
    reached = {place for of_answer in targets for place in of_answer}
    if belong >= max(1, FEWEST * len(given)) or len(reached) >= max(1, FEWEST * len(questions)):
        return
    ours = {question.id for question in questions}
    if all(answer.id in ours for answer in given):
        raise UserError(
            f"{path}: its ids are the questions', but {given[0].id!r} is the id of several and no answer's prompt is "
            "one of theirs; give each answer the prompt it is to"
        )
    raise UserError(
        f"{path}: {belong or 'none'} of its {len(given)} answers (the first is to {given[0].id!r}) "
        f"{'belong' if belong > 1 else 'belongs'} to one of the {len(questions)} questions (the first is "
        f"{questions[0].id!r}); are these files of one benchmark?"
    )


def _stripped(key: Callable[[T], Hashable]) -> Callable[[T], Hashable]:
    """The same key, where it is text without the blanks around it."""

    def stripped(one: T) -> Hashable:
        value = key(one)
        return value.strip() if isinstance(value, str) else value

    return stripped


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
    questions: Sequence[Question], given: Sequence[Given], by_id: Sequence[list[int]], path: Path, findings: Findings
) -> Sequence[list[int]]:
    """Places of each answer's questions: those of its id, unless its words or its image are another question's."""
    index = Index.of(questions)
    given = _without_a_common_prompt([_with_its_image(one) for one in given], index, path, findings)
    given = without_own_numbers(given, by_id, index, path, findings)
    unknown = [answer.id for answer in given if answer.image and index.images and not index.names_an_image(answer)]
    findings.count("answers about an image of another name", unknown, f"{path}: no question has it; joined without it")
    speaking = [n for n, answer in enumerate(given) if not answer.counted and index.speaks(answer)]
    if not speaking:
        _check_shift(questions, given, path)
        return by_id
    by_id = [index.of_its_image(answer, places) for answer, places in zip(given, by_id, strict=True)]
    known = [n for n in speaking if by_id[n]]
    wrong = {n for n in known if not any(index.fits(given[n], place) for place in by_id[n])}
    if known and not wrong:
        return by_id
    by_words = {n: index.find(given[n]) for n in speaking}
    if known and len(wrong) <= OTHER_WORDS * len(known):
        _check_shift_by_words(index, [given[n] for n in speaking], [given[n] for n in sorted(wrong)], path)
        _check_shift(questions, given, path)
        findings.count(
            "answers in other words",
            [given[n].id for n in sorted(wrong)],
            f"{path}: their words or image are not those of the question with their id; joined by these where they "
            "are one question's, else left out",
        )
        return [(by_words[n] or []) if n in wrong else places for n, places in enumerate(by_id)]
    found = sum(bool(places) for places in by_words.values())
    reached = len({place for places in by_words.values() for place in places or []})
    if found < (1 - OTHER_WORDS) * len(given) and reached < (1 - OTHER_WORDS) * len(questions):
        if not known:
            return by_id
        first = min(wrong)
        _refuse(given[first], questions[by_id[first][0]], by_words[first], len(questions), path)
    findings.note(f"{path}: its ids are not those of the questions; answers were joined by image and words")
    return [by_words.get(n) or [] for n in range(len(given))]


def _with_its_image(answer: Given) -> Given:
    """An id that is an image's path names the image; MME's also the subtask: count/000000006723.jpg."""
    folder = answer.id.rpartition("/")[0]
    if answer.image or not folder or not has_image_ending(answer.id):
        return answer
    return replace(answer, image=answer.id, category=answer.category or folder)


def _without_a_common_prompt(given: Sequence[Given], index: Index, path: Path, findings: Findings) -> Sequence[Given]:
    """A prompt that all answers have and that is no question's is a request, and says nothing about the question."""
    prompts = {plain_words(answer.prompt) for answer in given}
    prompt = next(iter(prompts))
    if len(given) < 2 or len(prompts) > 1 or not prompt or len(index.by_words) < 2 or index.texts_of(prompt):
        return given
    findings.note(f"{path}: all its answers have the same prompt ({given[0].prompt[:40]!r}), which is no question's")
    return [replace(answer, prompt="") for answer in given]


def _refuse(answer: Given, question: Question, found: list[int] | None, number: int, path: Path) -> None:
    what = " about ".join(filter(None, (answer.prompt and repr(answer.prompt[:80]), answer.image)))
    if found is None:
        why = "the words alone stand for several questions" if answer.prompt else "that image is of several questions"
    elif found:
        why = "too few others belong to one question by their words"
    else:
        why = f"its {'words are those' if answer.prompt else 'image is that'} of none of the {number} questions"
    about = f" about {question.image_name}" if answer.image and question.image_name else ""
    raise UserError(
        f"{path}: ids and words contradict each other: answer {answer.id} is to {what}, question "
        f"{question.id} is {bare(question.text)[:80]!r}{about}, and {why}; give the question file that the ids belong "
        "to, or the image's name in a column image_path (answers without prompt or question are joined by id alone)"
    )


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


def _check_shift_by_words(index: Index, given: Sequence[Given], wrong: Sequence[Given], path: Path) -> None:
    """Contradictions that all go where every id is raised or lowered by one number show another numbering."""
    questions = index.questions
    if not all(one.id.isdecimal() for one in (*questions, *given)):
        return
    places: dict[int, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        places[int(question.id)].append(place)
    shifts = set.intersection(
        *({int(questions[place].id) - int(answer.id) for place in index.candidates(answer)} for answer in wrong)
    )
    for shift in sorted(shifts - {0}, key=abs):
        if all(any(index.fits(one, place) for place in places.get(int(one.id) + shift, [])) for one in given):
            raise UserError(
                f"{path}: {len(wrong)} answers have another question's words or image, and all have their own where "
                f"{abs(shift)} is {'added to' if shift > 0 else 'taken from'} each id: another numbering; number them "
                "alike"
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
