"""Names in params.yaml that stand for something of this project: they are looked at before hours of training."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from components.errors import UserError
from components.metrics import METRICS, find
from components.params import Params


def check_names(params: Params) -> None:
    """UserError for a source's kind, a benchmark, its files or a gate's metric that nothing here knows."""
    from components.evaluation.benchmarks import BENCHMARKS, JUDGED, PUBLISHED
    from components.sources import SOURCES

    for name, source in params.data.sources.items():
        _known(source.kind, SOURCES, f"data.sources.{name}.kind")
    modules = {**BENCHMARKS, **PUBLISHED, **JUDGED}
    for name in params.evaluate.benchmarks:
        _known(name, modules, "evaluate.benchmarks")
        if name not in BENCHMARKS and name not in params.evaluate.files:
            raise UserError(
                f"params.yaml: evaluate.files.{name} is missing: questions, annotations and images of {name}"
            )
    for name in params.evaluate.files:
        _known(name, {**PUBLISHED, **JUDGED}, "evaluate.files")
    tasks = {task for name in params.evaluate.benchmarks for task in (name, *modules[name].TASKS)}
    for metric in params.registry.gate.metrics:
        _known(metric.partition(".")[0], tasks, f"registry.gate names {metric}; its task")
        if find(metric) is None:
            _known(metric, [row.name for row in METRICS if "*" not in row.name], "a metric of registry.gate")
    for field in ("not_worse", "better_than_blind"):
        for metric in getattr(params.registry.gate, field):
            row = find(metric)
            if row is not None and row.direction is None:
                raise UserError(f"params.yaml: registry.gate.{field} names {metric}, which has no better direction")


def _known(name: str, known: Iterable[str], where: str) -> None:
    names = sorted(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3) or names
        raise UserError(f"params.yaml: {where} is {name!r}, which is not known; near names: {', '.join(near)}")
