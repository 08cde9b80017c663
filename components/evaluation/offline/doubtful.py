"""Answers that count by the rule and may still mislead: they are counted and named, and figures without them printed.

A rule reads an answer as it stands. Of a reasoning trace it may read the trace, special tokens are words to it; what a
toolkit writes for a request that failed is no answer of the model's; and where another toolkit's rule reads something
else, the answer is ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components.evaluation.offline.findings import Findings
from components.evaluation.question import Question

if TYPE_CHECKING:
    from components.evaluation.benchmarks import Published

Texts = Sequence[str | None]  # one for each question, None where a file has no answer
Metrics = dict[str, dict[str, float]]
Figures = Callable[[Sequence[Texts], bool], Metrics]  # files, whether missing is wrong -> empty where nothing is left

_MARKS = "think|thinking|thought|reasoning"
_BEGIN = re.compile(rf"<(?:{_MARKS})>|\u25c1think\u25b7", re.IGNORECASE)
_END = re.compile(rf"</(?:{_MARKS})>|\u25c1/think\u25b7", re.IGNORECASE)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_TOKENS = re.compile(r"</?s>|<\|[A-Za-z_]+\|>|<(?:eos|bos|pad|end_of_utterance|end_of_turn)>")
_FAILED = re.compile(r"\s*Failed to obtain answer\b")  # VLMEvalKit's words


def after_trace(text: str) -> str:
    """What follows a reasoning trace, inside <answer> where there is such; empty where the trace has no end, and the
    text itself where it has neither.
    """
    ends = list(_END.finditer(text))
    rest = text[ends[-1].end() :] if ends else text
    answers = _ANSWER.findall(rest)
    if answers:
        return answers[-1].strip()
    if ends:
        return rest.strip()
    return "" if _BEGIN.search(text) else text


def without_tokens(text: str) -> str:
    """The text without the special tokens of a model that a script did not skip: </s>, <|im_end|>."""
    return _TOKENS.sub("", text).strip() if _TOKENS.search(text) else text


def failed(text: str) -> bool:
    return bool(_FAILED.match(text))


def report_doubtful(
    bench: Published, questions: Sequence[Question], texts: Sequence[Texts], rule: str, findings: Findings, of: Figures
) -> None:
    answers = [(q, text) for of_file in texts for q, text in zip(questions, of_file, strict=True) if text is not None]
    _report_unread(bench, answers, rule, findings)
    _report_otherwise(bench, answers, rule, findings)
    for kind, without_it, rest in (
        ("a reasoning trace", after_trace, "of what stands after it"),
        ("special tokens", without_tokens, "without these"),
    ):
        marked = [(question, text) for question, text in answers if without_it(text) != text]
        if marked:
            plain = of([[text and without_it(text) for text in of_file] for of_file in texts], bench.MISSING_IS_WRONG)
            nothing = sum(not without_it(text) for _, text in marked)
            empty = f" ({nothing} hold nothing else)" if nothing else ""
            why = f"the rule {rule} reads them whole; {rest}{empty} the figures are {first(plain)}"
            findings.count(f"answers with {kind}", [question.id for question, _ in marked], why)
    without = [question.id for question, text in answers if failed(text)]
    if without:
        left = of([[None if text is None or failed(text) else text for text in of_file] for of_file in texts], False)
        findings.count(
            "failed requests",
            without,
            f"the words that VLMEvalKit writes for an answer count as one; with these left out: {first(left)}",
        )


def report_shown(questions: Sequence[Question], texts: Texts, findings: Findings) -> None:
    """Answers that a judge will grade as they stand."""
    for kind, is_such in (
        ("answers with a reasoning trace", lambda text: after_trace(text) != text),
        ("answers with special tokens", lambda text: without_tokens(text) != text),
        ("failed requests", failed),
    ):
        which = [q.id for q, text in zip(questions, texts, strict=True) if text is not None and is_such(text)]
        findings.count(kind, which, "the judge is shown them whole")


Answers = Sequence[tuple[Question, str]]


def _report_unread(bench: Published, answers: Answers, rule: str, findings: Findings) -> None:
    """Answers in which the rule finds nothing; and how many of them another rule would read."""
    unread = [(question, text) for question, text in answers if bench.reading(question, text, rule) is None]
    others = {
        name: sum(bench.reading(*one, name) is not None for one in unread) for name in bench.RULES if name != rule
    }
    read = ", ".join(f"{name} reads {number} of them" for name, number in others.items() if number)
    why = f"the rule {rule} finds nothing in them; they count {bench.UNREAD_COUNT_AS}"
    findings.count(
        "answers that could not be read", [question.id for question, _ in unread], f"{why}{read and '; --rule '}{read}"
    )


def _report_otherwise(bench: Published, answers: Answers, rule: str, findings: Findings) -> None:
    """Answers in which another rule finds something else: "Yes, though not near" is no by LLaVA's."""
    for name in (name for name in bench.RULES if name != rule):
        pairs = [(q, bench.reading(q, text, rule), bench.reading(q, text, name)) for q, text in answers]
        other = [q.id for q, mine, theirs in pairs if None not in (mine, theirs) and mine != theirs]
        findings.count(
            f"answers that {name} reads otherwise",
            other,
            f"they count as the rule {rule} reads them; see --rule {name}",
        )


def first(metrics: Metrics) -> str:
    """The first task's figures: the benchmark's own, or its first task's."""
    for task, figures in metrics.items():
        return f"{task} " + ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
    return "none"
