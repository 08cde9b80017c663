"""Scoring answers made elsewhere: read, join, apply the rule, and say what was left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.errors import UserError
from components.evaluation.benchmarks import JUDGED, PUBLISHED, WITH_SPLITS, Published
from components.evaluation.offline.answers import read_answers
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.joining import join
from components.evaluation.offline.questions import Files
from components.evaluation.question import Question

Metrics = dict[str, dict[str, float]]  # task -> metric -> value, percent where it is a share


@dataclass
class Report:
    """`other`: the same figures with missing answers treated the other way, where there are any."""

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
    findings: Findings = field(default_factory=Findings)


def score_files(name: str, files: Files, rule: str | None) -> Report:
    """Score every file of `files.answers` by `rule` (the benchmark's first by default) and average them."""
    findings = Findings()
    if name not in WITH_SPLITS:
        files.without_splits(name)
    if name in JUDGED:
        return _judged(name, files, chosen(JUDGED[name].RULES, name, rule), findings)
    bench = PUBLISHED[name]
    rule = chosen(bench.RULES, name, rule)
    asked = bench.read(files, findings)
    texts = []
    for path in files.answers:
        given = read_answers(path, findings)
        texts.append(join(asked, given, bench.key_asked, bench.key_given, path, findings))
    each = [_figures(bench, asked, text, rule, bench.MISSING_IS_WRONG) for text in texts]
    if not all(each):
        raise UserError(f"{bench.NAME}: no question is answered whole; nothing can be scored")
    report = Report(
        name,
        rule,
        [str(path) for path in files.answers],
        len(asked),
        [sum(text is not None for text in of_file) for of_file in texts],
        average(each),
        "counted as wrong" if bench.MISSING_IS_WRONG else "left out",
        each=each,
        findings=findings,
    )
    missing = [question.id for of_file in texts for question, text in zip(asked, of_file, strict=True) if text is None]
    silent = {q.task for q in asked} - {
        q.task for of_file in texts for q, t in zip(asked, of_file, strict=True) if t is not None
    }
    if silent and not bench.MISSING_IS_WRONG:
        findings.say(f"no answer at all for {', '.join(sorted(silent))}: means and sums go over the others")
    if missing:
        findings.leave("questions without an answer", missing, f"{report.missing_are}, as {rule}'s rule has it")
        report.other = average([_figures(bench, asked, text, rule, not bench.MISSING_IS_WRONG) for text in texts])
    return report


def chosen(rules: Mapping[str, Any], name: str, rule: str | None) -> str:
    if rule is None:
        return next(iter(rules))
    if rule not in rules:
        raise UserError(f"--rule {rule}: {name} knows {', '.join(rules)}")
    return rule


def _figures(
    bench: Published, asked: Sequence[Question], texts: Sequence[str | None], rule: str, wrong: bool
) -> Metrics:
    """Missing answers counted as wrong, or their questions left out: with all of their group where only whole groups
    mean something (the rotations of one question, the two questions about an image). Empty where none is left.
    """
    if not wrong:
        pairs = list(zip(asked, texts, strict=True))
        gone = {question.group for question, text in pairs if text is None} if bench.WHOLE_GROUPS else set()
        kept = [(q, text) for q, text in pairs if text is not None and q.group not in gone]
        if not kept:
            return {}
        asked, texts = [question for question, _ in kept], [text for _, text in kept]
    metrics = bench.score(asked, texts, rule).metrics
    return {
        task: {name: 100 * value if name in bench.SHARES else value for name, value in figures.items()}
        for task, figures in metrics.items()
    }


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
    asked = bench.asked(files, findings)
    each = [
        bench.summary(grades, asked, rule, path, findings) for grades, path in zip(graded, files.answers, strict=True)
    ]
    if not asked:
        findings.say("which questions were asked is not known without the benchmark's own; only grades are counted")
    judges = sorted({grade.judge for grades in graded for grade in grades if grade.judge})
    if len(judges) > 1:
        findings.say(f"graded by different judges ({', '.join(judges)}): their grades must not be compared")
    ids = {question.id for question in asked} or {grade.id for grades in graded for grade in grades}
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
