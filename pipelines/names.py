"""Names in params.yaml that stand for something of this project: they are looked at before hours of training."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import read_json
from components.metrics import LIMITS, METRICS, find
from components.model.local_files import check_own_place
from components.params import Base, Params
from components.workspace import SPLITS_SUMMARY


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
    check_own_place(params.base)
    check_levels(params)
    tasks = {task for name in params.evaluate.benchmarks for task in (name, *modules[name].TASKS)}
    for metric in params.registry.gate.metrics:
        _known(metric.partition(".")[0], tasks, f"registry.gate names {metric}; its task")
        if find(metric) is None:
            _known(metric, [row.name for row in METRICS if "*" not in row.name], "a metric of registry.gate")
    _check_scales(params.registry.gate.at_least)
    for field in ("not_worse", "better_than_blind"):
        for metric in getattr(params.registry.gate, field):
            row = find(metric)
            if row is not None and row.direction is None:
                raise UserError(f"params.yaml: registry.gate.{field} names {metric}, which has no better direction")


def _check_scales(at_least: Mapping[str, float]) -> None:
    """UserError for a value that no model reaches: a share from 0 to 1 that was given in percent, say."""
    for metric, least in at_least.items():
        row = find(metric)
        limit = LIMITS.get(row.scale) if row else None
        if limit is not None and least > limit:
            hint = f"; did you mean {least / 100:g}?" if limit == 1 and least <= 100 else ""
            raise UserError(
                f"params.yaml: registry.gate.at_least.{metric} is {least:g}, but it goes from 0 to {limit:g}{hint}"
            )


def check_levels(params: Params) -> None:
    """UserError where vce.levels do not fit the encoder that base names, as far as its config.json is on this machine.

    Before anything is prepared for it; of a base that must be downloaded first, stage `pretrain` says the same.
    """
    config = _vision_config(params.base)
    width, layers = config.get("hidden_size"), config.get("num_hidden_layers")
    if params.vce.enabled and isinstance(width, int) and isinstance(layers, int):
        misfit = params.vce.misfit(width, layers)
        if misfit:
            raise UserError(f"params.yaml: {misfit}")


def check_tasks(params: Params) -> None:
    """UserError where the test split holds no question that the benchmarks ask, or that the gate's metrics rest on.

    Before training: afterwards the gate would refuse every version, hours later.
    """
    from components.evaluation.benchmarks import BENCHMARKS

    splits = read_json(SPLITS_SUMMARY, "run: dvc repro splits")
    there: set[str] = set()
    for source in params.finetune.sources:
        of_source = splits.get(source) or {}
        test = of_source.get("test", {}) if isinstance(of_source, dict) else None
        if not isinstance(test, dict):
            raise UserError(f"{SPLITS_SUMMARY}: {source} is not as it is written; run: dvc repro --force splits")
        there |= set(test) - {"rows"}
    held = f"the test split of finetune.sources holds only {', '.join(sorted(there)) or 'nothing'}"
    own = [name for name in params.evaluate.benchmarks if name in BENCHMARKS and name not in params.evaluate.files]
    asked = {task for name in own for task in BENCHMARKS[name].TASKS}
    if own == list(params.evaluate.benchmarks) and not asked & there:
        raise UserError(
            f"params.yaml: evaluate.benchmarks ({', '.join(own)}) ask {', '.join(sorted(asked))}, but {held}"
        )
    for metric in params.registry.gate.metrics:
        task = metric.partition(".")[0]
        if task in asked - there:
            raise UserError(f"params.yaml: registry.gate names {metric}, but {held}: it would never be measured")


def _vision_config(base: Base) -> dict[str, Any]:
    """The configuration of the base's vision encoder; empty where it is not on this machine."""
    if base.kind == "tiny":
        return {}  # params.yaml itself is checked
    place = base.compose.vision if base.kind == "compose" else base.checkpoint.model
    file: Any = Path(place) / "config.json"
    if not Path(place).is_dir():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            file = try_to_load_from_cache(place, "config.json")
        except HFValidationError:
            return {}
    try:
        config = json.loads(Path(file).read_text(encoding="utf-8")) if isinstance(file, str | Path) else {}
    except (OSError, ValueError, RecursionError):
        return {}  # loading it will say what is wrong
    return config.get("vision_config", config) if isinstance(config, dict) else {}


def _known(name: str, known: Iterable[str], where: str) -> None:
    names = sorted(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=3) or names
        raise UserError(f"params.yaml: {where} is {name!r}, which is not known; near names: {', '.join(near)}")
