"""Scoring answers made elsewhere: read, join, apply the rule, and report what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from components.errors import UserError
from components.evaluation.benchmarks import JUDGED, PUBLISHED, Published, check_split
from components.evaluation.offline.answers import read_answers
from components.evaluation.offline.doubtful import report_doubtful
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import join
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question

Metrics = dict[str, dict[str, float]]  # task -> metric -> value, percent where it is a share
Texts = list[str | None]  # one for each question, None where a file has no answer
_PARTLY = 0.9  # of a task's questions; where fewer are answered, which ones may decide its figure
MOST_SHARED = 0.1  # of the smallest file's answers may be another's, too, where files are parts of one


@dataclass
class Report:
    """`other`: the same figures with missing answers treated the other way, where there are any.

    `main`: task -> its main metric, which may be one that these answers do not give.
    """

    benchmark: str
    rule: str
    files: list[str]
    questions: int
    answered: list[int]
    metrics: Metrics
    missing_are: str
    verb: str = "answered"
    each: list[Metrics] = field(default_factory=list)
    other: Metrics = field(default_factory=dict)
    main: Mapping[str, str] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def score_files(name: str, files: Files, rule: str | None) -> Report:
    """Score every file of `files.answers` by `rule` (the benchmark's first by default) and average them."""
    findings = Findings()
    check_split(name, files)
    if name in JUDGED:
        return _judged(name, files, chosen(JUDGED[name].RULES, name, rule), findings)
    bench = PUBLISHED[name]
    rule = chosen(bench.RULES, name, rule)
    questions = bench.read(files, findings)
    if not questions:
        raise UserError(f"{files.annotations or files.questions or files.answers[0]} holds no question of {name}")
    texts = []
    for path in files.answers:
        given = read_answers(path, findings, questions)
        texts.append(join(questions, given, bench.question_key, bench.answer_key, path, findings))
    names, texts = _parts_as_one([str(path) for path in files.answers], texts, questions, findings)
    each = [_figures(bench, questions, of_file, rule, bench.MISSING_IS_WRONG) for of_file in texts]
    if not all(each):
        raise UserError(f"{bench.NAME}: no question is answered whole; nothing can be scored")
    report = Report(
        name,
        rule,
        names,
        len(questions),
        [sum(text is not None for text in of_file) for of_file in texts],
        average(each),
        "counted as wrong" if bench.MISSING_IS_WRONG else "left out",
        each=each,
        main={task: metric.name for task, metric in bench.MAIN.items()},
        findings=findings,
    )
    report_doubtful(bench, questions, texts, rule, findings, partial(_mean, bench, questions, rule))
    _report_missing(bench, questions, texts, rule, report)
    return report


def _parts_as_one(
    names: list[str], texts: list[Texts], questions: Sequence[Question], findings: Findings
) -> tuple[list[str], list[Texts]]:
    """Files of which no two answer one question, or hardly any, are parts of one, as several processes write them."""
    together = [[text for text in of_question if text is not None] for of_question in zip(*texts, strict=True)]
    shared = [place for place, found in enumerate(together) if len(found) > 1]
    fewest = min(sum(text is not None for text in of_file) for of_file in texts)
    if len(texts) < 2 or len(shared) > MOST_SHARED * fewest:
        return names, texts
    common = f"only {len(shared)} questions" if shared else "no question"
    findings.note(f"the {len(texts)} files answer {common} in common; they were read as parts of one")
    other = [questions[place].id for place in shared if len(set(together[place])) > 1]
    findings.count("repeated ids", other, "files give them different answers; that of the last file counts")
    return [" + ".join(names)], [[found[-1] if found else None for found in together]]


def _report_missing(
    bench: Published, questions: Sequence[Question], texts: Sequence[Texts], rule: str, report: Report
) -> None:
    pairs = [(q, text) for of_file in texts for q, text in zip(questions, of_file, strict=True)]
    silent = {q.task for q in questions} - {q.task for q, text in pairs if text is not None}
    if silent and not bench.MISSING_IS_WRONG:
        report.findings.note(f"no answer at all for {', '.join(sorted(silent))}: means and sums go over the others")
    asked, given = Counter(q.task for q, _ in pairs), Counter(q.task for q, text in pairs if text is not None)
    partly = [f"{task} {given[task]} of {asked[task]}" for task in sorted(given) if given[task] < _PARTLY * asked[task]]
    if partly and not bench.MISSING_IS_WRONG and len(asked) > 1:
        report.findings.note(f"answered in part: {', '.join(partly)}; their figures are of these questions alone")
    missing = [question.id for question, text in pairs if text is None]
    if missing:
        why = f"{report.missing_are}, as {rule}'s rule has it"
        report.findings.count("questions without an answer", missing, why)
        report.other = _mean(bench, questions, rule, texts, not bench.MISSING_IS_WRONG)


def chosen(rules: Mapping[str, Any], name: str, rule: str | None) -> str:
    if rule is None:
        return next(iter(rules))
    if rule not in rules:
        raise UserError(f"--rule {rule}: {name} knows {', '.join(rules)}")
    return rule


def _figures(
    bench: Published, questions: Sequence[Question], texts: Sequence[str | None], rule: str, wrong: bool
) -> Metrics:
    """Missing answers counted as wrong, or their questions left out: with all of their group where only whole groups
    mean something (the rotations of one question, the two questions about an image). Empty where none is left.
    """
    if not wrong:
        pairs = list(zip(questions, texts, strict=True))
        gone = {question.group for question, text in pairs if text is None} if bench.WHOLE_GROUPS else set()
        kept = [(q, text) for q, text in pairs if text is not None and q.group not in gone]
        if not kept:
            return {}
        questions, texts = [question for question, _ in kept], [text for _, text in kept]
    metrics = bench.score(questions, texts, rule).metrics
    return {
        task: {name: 100 * value if name in bench.SHARES else value for name, value in figures.items()}
        for task, figures in metrics.items()
    }


def _mean(
    bench: Published, questions: Sequence[Question], rule: str, texts: Sequence[Sequence[str | None]], wrong: bool
) -> Metrics:
    """The mean over files, empty where one has no figure."""
    each = [_figures(bench, questions, of_file, rule, wrong) for of_file in texts]
    return average(each) if all(each) else {}


def average(each: Sequence[Metrics]) -> Metrics:
    """The mean over files of every figure that all of them have."""
    return {
        task: {
            name: sum(metrics[task][name] for metrics in each) / len(each)
            for name in figures
            if all(name in metrics.get(task, {}) for metrics in each)
        }
        for task, figures in each[0].items()
        if all(task in metrics for metrics in each)
    }


def _judged(name: str, files: Files, rule: str, findings: Findings) -> Report:
    bench = JUDGED[name]
    graded = [bench.read_grades(path, findings) for path in files.answers]
    questions = bench.read(files, findings)
    each = [
        bench.summary(grades, questions, rule, path, findings)
        for grades, path in zip(graded, files.answers, strict=True)
    ]
    if not questions:
        findings.note("the benchmark's own questions were not given, so which are missing is not known")
    judges = sorted({grade.judge for grades in graded for grade in grades if grade.judge})
    if len(judges) > 1:
        findings.note(f"graded by different judges ({', '.join(judges)}): their grades must not be compared")
    ids = {question.id for question in questions} or {grade.id for grades in graded for grade in grades}
    return Report(
        name,
        rule,
        [str(path) for path in files.answers],
        len(ids),
        [len({grade.id for grade in grades if grade.scores} & ids) for grades in graded],
        average(each),
        "left out",
        "graded",
        each,
        findings=findings,
    )
