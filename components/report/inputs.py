"""What the report reads: the files of earlier stages. What is optional and not there is None or empty."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from components.errors import UserError
from components.workspace import (
    ANSWERS,
    BASE,
    FINETUNE,
    INSIGHT,
    LOG,
    MANIFEST,
    METRICS,
    PREPARED,
    PRETRAIN,
    REGISTRATION,
    SPLITS_SUMMARY,
    TABLES,
    TUNE,
)


@dataclass(frozen=True)
class Inputs:
    """Parsed files. `root` holds the folders data/, models/, evaluation/, tables/, benchmarks/."""

    root: Path
    metrics: dict[str, Any]
    splits: dict[str, Any] | None = None
    registration: dict[str, Any] | None = None
    model: dict[str, Any] | None = None
    base: dict[str, Any] | None = None  # which base was trained on: kind, id, revision, digest
    search: dict[str, Any] | None = None
    samples: list[dict[str, Any]] = field(default_factory=list)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)  # by source
    logs: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # by stage: pretrain, finetune
    validation: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # by stage: step, validation_loss
    asked: dict[str, dict[str, int]] = field(default_factory=dict)  # row of metrics -> task -> answered questions
    times: dict[str, Any] = field(default_factory=dict)  # what benchmarks/adapters.py measured
    gpu: dict[str, Any] = field(default_factory=dict)  # what benchmarks/gpu.py measured
    tables: dict[str, Any] = field(default_factory=dict)  # by name: table1, ...
    entropy: list[dict[str, str]] = field(default_factory=list)
    skill_space: list[dict[str, str]] = field(default_factory=list)
    experts: list[dict[str, str]] = field(default_factory=list)

    @property
    def insight(self) -> Path:
        return self.root / INSIGHT


_STAGES = {"pretrain": PRETRAIN, "finetune": FINETUNE}


def read_inputs(root: Path) -> Inputs:
    """Read everything under `root`; only evaluation/metrics.json must be there."""
    metrics = _json(root / METRICS)
    if metrics is None:
        raise UserError(f"{root / METRICS} is missing; run: dvc repro evaluate")
    manifests = {path.parent.name: _json(path) for path in sorted((root / PREPARED).glob(f"[!.]*/{MANIFEST}"))}
    return Inputs(
        root=root,
        metrics=metrics,
        splits=_json(root / SPLITS_SUMMARY),
        registration=_json(root / REGISTRATION),
        model=_json(root / FINETUNE / "model.json"),
        base=_json(root / BASE / "base.json"),
        search=_json(root / TUNE / "search.json"),
        samples=_json(root / INSIGHT / "samples.json") or [],
        manifests=manifests,
        logs={stage: log for stage, folder in _STAGES.items() if (log := _log(root / folder / LOG))},
        validation={stage: found for stage, folder in _STAGES.items() if (found := _validation(root / folder))},
        asked=_asked(root / ANSWERS),
        times=_json(root / "benchmarks" / "results" / "adapters.json") or {},
        gpu=_json(root / "benchmarks" / "results" / "gpu.json") or {},
        tables={path.stem: _table(path) for path in sorted((root / TABLES).glob("*.json"))},
        entropy=_csv(root / INSIGHT / "entropy.csv"),
        skill_space=_csv(root / INSIGHT / "skill_space.csv"),
        experts=_csv(root / INSIGHT / "experts.csv"),
    )


def _json(path: Path) -> Any:
    """The parsed file, or None where there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); run the stage that writes it again") from None


def _table(path: Path) -> Any:
    table = _json(path)
    if not (isinstance(table, dict) and {"rows", "published", "differences"} <= table.keys()):
        raise UserError(f"{path} is not a table of python -m pipelines.tables; move it out of {path.parent}")
    return table


def _csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no CSV of ours ({error}); run the stage that writes it again") from None


def _log(path: Path) -> list[dict[str, float]]:
    """The steps of a training log in order; a field that is no number is left out."""
    return [{name: number for name, text in row.items() if (number := _number(text)) is not None} for row in _csv(path)]


def _validation(folder: Path) -> list[dict[str, float]]:
    """Losses on held-out samples while a stage trained: validation.csv, validation.jsonl, or a column of log.csv."""
    lines = _log(folder / "validation.csv") or _json_lines(folder / "validation.jsonl") or _log(folder / LOG)
    return [line for line in lines if "step" in line and "validation_loss" in line]


def _json_lines(path: Path) -> list[dict[str, float]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [{name: v for name, v in json.loads(line).items() if isinstance(v, int | float)} for line in lines]
    except FileNotFoundError:
        return []
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON lines ({error}); run the stage that writes it again") from None


def _asked(path: Path) -> dict[str, dict[str, int]]:
    """How many questions each row answered, by task; empty where evaluation kept no answers."""
    if not path.is_file():
        return {}
    try:
        answers = pq.read_table(path, columns=["row", "task"]).to_pylist()
    except (pa.ArrowInvalid, KeyError) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}); run: dvc repro evaluate") from None
    counts: dict[str, dict[str, int]] = {}
    for answer in answers:
        of_row = counts.setdefault(answer["row"], {})
        of_row[answer["task"]] = of_row.get(answer["task"], 0) + 1
    return counts


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
