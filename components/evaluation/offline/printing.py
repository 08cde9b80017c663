"""A report of scores as lines to read and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from components.evaluation.offline.doubtful import first
from components.evaluation.offline.scoring import Report


def as_json(report: Report) -> dict[str, Any]:
    return {
        "benchmark": report.benchmark,
        "rule": report.rule,
        "metrics": {task: _withfirst(report, task, figures) for task, figures in report.metrics.items()},
        "questions": report.questions,
        "files": [
            {"answers": file, "answered": answered, "metrics": metrics}
            for file, answered, metrics in zip(report.files, report.answered, report.each, strict=True)
        ],
        "missing": {
            "are": report.missing_are,
            "count": report.questions * len(report.files) - sum(report.answered),
            "metrics_otherwise": report.other or None,
        },
        "unmatched": {kind: {"count": len(which), "which": which} for kind, which in report.findings.unmatched.items()},
        "notes": report.findings.lines,
    }


def _withfirst(report: Report, task: str, figures: Mapping[str, float]) -> dict[str, float | None]:
    """The figures; a task's main metric that these answers do not give is null."""
    main = report.main.get(task)
    return {**({main: None} if main else {}), **figures}


def lines(report: Report) -> Iterator[str]:
    """Every figure, then what was not counted."""
    yield f"{report.benchmark}, rule {report.rule}: {', '.join(_counts(report))}"
    width = max(len(task) for task in report.metrics)
    for task, figures in report.metrics.items():
        values = "  ".join(f"{name} {value:.2f}" for name, value in figures.items())
        yield f"  {task.ljust(width)}  {values}"
    if len(report.files) > 1:
        for file, metrics in zip(report.files, report.each, strict=True):
            yield f"  {file}: {first(metrics)}"
        yield f"  the figures above are the mean of these {len(report.files)} files"
    if report.other:
        otherwise = "counted as wrong" if report.missing_are == "left out" else "left out"
        yield f"  with missing answers {otherwise}: {first(report.other)}"
    for line in report.findings.lines:
        yield f"  note: {line}"


def _counts(report: Report) -> Iterator[str]:
    for file, answered in zip(report.files, report.answered, strict=True):
        missing = report.questions - answered
        yield f"{answered} of {report.questions} {report.verb} in {file}" + (
            f" ({missing} missing: {report.missing_are})" if missing else ""
        )
