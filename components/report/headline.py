"""What was learnt, said first: every task's main metric after stage 2 beside the same model shown wrong images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from components.metrics import WITH_IMAGE
from components.report.figures import COUNTS, count, figure
from components.report.meanings import MAIN, another, main_metric
from components.report.results import OURS, Asked, Difference, compared, differences

_NOT_SHOWN = "It is not shown that the model uses its image"


@dataclass(frozen=True)
class Headline:
    """A claim in one sentence, and a line of evidence for each task."""

    claim: str
    evidence: list[str]


def headline(metrics: Mapping[str, Any], asked: Asked | None = None) -> Headline:
    """Whether the model uses its image, by every task that both rows answered."""
    found = against_blind(metrics, asked)
    if not found:
        return Headline("Whether the model uses its image was not measured: there is no row with wrong images", [])
    tasks = [task for task in metrics.get(OURS, {}) if task in metrics.get("blind", {})]
    return Headline(_claim(found), [_line(one, metrics, another(tasks)) for one in found])


def against_blind(metrics: Mapping[str, Any], asked: Asked | None = None) -> list[Difference]:
    """One comparison a task, with the interval that evaluation measured, if it did."""
    measured = {one.metric: one for one in differences(metrics, asked) if not one.ratio and one.rows == (OURS, "blind")}
    ours, blind = metrics.get(OURS, {}), metrics.get("blind", {})
    places = {task: place for place, task in enumerate(MAIN)}
    chosen = []
    for task in sorted(ours.keys() & blind.keys(), key=lambda task: places.get(task, len(places))):
        scores = [name for name in ours[task] if name not in COUNTS and name in blind[task]]
        if not scores:
            continue
        metric = f"{task}.{main_metric(task, scores)}"
        shared = WITH_IMAGE.get(metric, metric)
        name = shared.partition(".")[2] if shared.partition(".")[2] in scores else metric.partition(".")[2]
        entry = {"value": ours[task][name] - blind[task][name]}
        number = (asked or {}).get("blind", {}).get(task)
        plain = compared(f"{task}.{name}", (OURS, "blind"), entry, ratio=False, questions=number)
        chosen.append(measured.get(metric) or measured.get(shared) or plain)
    return chosen


def _claim(found: list[Difference]) -> str:
    """Only tasks with an interval are decided; the others are counted as open."""
    decided = [one.good for one in found if one.low is not None]
    better, worse, of = decided.count(True), decided.count(False), len(found)
    left = of - len(decided)
    beside = f"; no interval for {left}" if left else ""
    if not decided:
        return "Whether the model uses its image is not known: no comparison has enough questions and an interval"
    if worse:
        return f"The model does worse with the right image than with a wrong one in {_of(worse, of)}{beside}"
    if not better:
        return f"It is not shown that the model uses its image in any of {of} tasks{beside}" if of > 1 else _NOT_SHOWN
    return "The model uses its image" + ("" if better == of else f" in {better} of {of} tasks{beside}")


def _of(number: int, of: int) -> str:
    return "the one task compared" if number == of == 1 else f"{number} of {of} tasks"


def _line(one: Difference, metrics: Mapping[str, Any], other: str) -> str:
    metric = WITH_IMAGE.get(one.metric, one.metric)  # what both rows answered, where it has a figure of its own
    if any(metric.partition(".")[2] not in metrics[row][metric.partition(".")[0]] for row in (OURS, "blind")):
        metric = one.metric
    task, _, name = metric.partition(".")
    printed = figure(metric)
    scores = [printed.text(metrics[row][task][name]) for row in (OURS, "blind")]
    asked = "" if one.questions is None else f"; {count(one.questions)} question{'' if one.questions == 1 else 's'}"
    asked += "" if one.groups is None else f" in {count(one.groups)} groups"
    if one.too_few:
        return (
            f"{task} {printed.name} {scores[0]}, shown {other} {scores[1]}{asked}: too few for an interval or a verdict"
        )
    unit = "better" if (one.value > 0) == one.higher_is_better else "worse"
    gap = f"{abs(one.value):.1f} points {unit}" if one.value else "no difference"
    if one.low is None:
        return f"{task} {printed.name} {scores[0]}, shown {other} {scores[1]}: {gap}{asked}; no interval was measured"
    verdict = "" if one.good is not None else ", undecided"
    return (
        f"{task} {printed.name} {scores[0]}, shown {other} {scores[1]}: {gap}{verdict} "
        f"({100 * one.confidence:.0f}\u00a0% interval of the gain {one.gain_interval}{asked})"
    )
