"""Which questions there are, and asking a model those that its journal does not know yet, with the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from components.data.schema import Row
from components.errors import UserError
from components.evaluation.benchmarks import BENCHMARKS, JUDGED, PUBLISHED, benchmark
from components.evaluation.inference.journal import Answered, Failed, Journal
from components.evaluation.question import Question
from components.params import BenchmarkFiles
from components.progress import Bar

Batches = Callable[[Sequence[Question]], Iterator[dict[int, Answered]]]  # as `answering.answers_by_batch`


def questions(
    names: Sequence[str], rows: Sequence[Row], files: Mapping[str, BenchmarkFiles] = MappingProxyType({})
) -> list[Question]:
    """The questions of all benchmarks, one benchmark after the other: the test split's own, or those of its `files`.

    Those that a judge grades are asked apart (`judged.py`).
    """
    names = [name for name in names if name not in JUDGED]
    if not names:
        raise UserError("params.yaml: evaluate.benchmarks must name one that is scored by a rule; a judge grades these")
    asked = [question for name in names for question in _questions_of(name, rows, files.get(name))]
    if not asked:
        found = sorted({sample.task for row in rows for sample in row.samples}) or ["nothing"]
        raise UserError(
            f"the test split holds no question of evaluate.benchmarks ({', '.join(names)}), only {', '.join(found)}; "
            "see data/splits/summary.json, finetune.sources and data.splits.test"
        )
    return asked


def _questions_of(name: str, rows: Sequence[Row], files: BenchmarkFiles | None) -> list[Question]:
    from components.batching.collator import MAX_PIXELS
    from components.evaluation.offline.illustrated import published_questions

    if name in PUBLISHED and (files or name not in BENCHMARKS):
        return published_questions(name, files, MAX_PIXELS)
    if files:
        raise UserError(f"params.yaml: evaluate.files names {name}, which has no published files; remove it there")
    return benchmark(name).from_rows(rows)


def ask(batches: Batches, asked: Sequence[Question], journal: Journal, *, what: str) -> list[Answered]:
    """All answers in the order of the questions; `batches` is called only if something is left to ask.

    The number of failed questions is printed; UserError when every one did.
    """
    left = list({journal.key(q): q for q in asked if journal.get(q) is None}.values())
    failed: dict[str, Failed] = {}
    if left:
        with Bar(what, total=len(left)) as bar:
            for answered in batches(left):
                journal.add((left[place], answer) for place, answer in answered.items())
                failed |= {journal.key(left[n]): a for n, a in answered.items() if isinstance(a, Failed)}
                bar.at(bar.done + len(answered))
    answers = [_known(journal, question, failed) for question in asked]
    tell_failed(what, answers)
    return answers


def _known(journal: Journal, question: Question, failed: dict[str, Failed]) -> Answered:
    answer = journal.get(question)
    return failed[journal.key(question)] if answer is None else answer


def tell_failed(what: str, answers: Iterable[Answered]) -> None:
    """One line where questions failed; UserError where nothing else is left."""
    answers = list(answers)
    reasons = [answer.reason for answer in answers if isinstance(answer, Failed)]
    if reasons and len(reasons) == len(answers):
        raise UserError(f"{what}: every one of {len(answers)} questions failed, the first with {reasons[0]}")
    if reasons:
        kinds = len(set(reasons))
        more = f", and {kinds - 1} other reasons" if kinds > 1 else ""
        print(
            f"{what}: {len(reasons)} of {len(answers)} questions failed and count as wrong ({reasons[0]}{more}); "
            "they are asked again next time",
            flush=True,
        )
