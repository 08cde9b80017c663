"""Stage `register`: the trained model becomes a version of the registry, and the champion if the gate lets it.

It runs on every `dvc repro`, so that the registry matches the workspace after a cached run too; a model that
is registered already is not registered again. What a tracking server missed of the training runs is sent here too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest
from components.errors import UserError
from components.files import read_json, write_json
from components.params import Params
from components.tracking import promotion, registry, runs, store
from components.tracking.gate import flat_metrics
from components.workspace import home
from pipelines import stage

PARTS, BASE, METRICS = Path("models/finetune"), Path("models/base"), Path("evaluation/metrics.json")
PREPARED, ASSIGNMENTS = Path("data/prepared"), Path("data/splits/assignments.parquet")
OUT = Path("registration.json")


def run(params: Params) -> None:
    metrics = flat_metrics(_read(METRICS, "evaluate", "finetune")["finetune"])
    runs.send_waiting(home() / "runs")
    done = registry.register(PARTS, BASE, metrics, params, measured_on(params))
    print(f"register: {done.name} version {done.version}{'' if done.new else ' (registered before)'}, candidate")

    outcome: dict[str, Any] = {"passed": None, "reasons": ["an experiment registers a candidate only"]}
    if not os.environ.get("DVC_EXP_NAME"):
        judged = promotion.promote(done.name, str(done.version), params.registry.gate, source="repro")
        outcome = {"passed": judged.passed, "reasons": judged.reasons}
        for reason in judged.reasons:
            print(f"  {reason}")
        print(_told(judged))
    write_json(
        OUT,
        {
            "name": done.name,
            "version": done.version,
            "model": done.digest,
            "aliases": _aliases(done.name, done.version),
            "gate": outcome,
        },
    )


def measured_on(params: Params) -> dict[str, str]:
    """Digests of what the figures rest on: every source that is evaluated, the splits, published files, the judge."""
    if not ASSIGNMENTS.is_file():
        raise UserError(f"{ASSIGNMENTS} is missing; run: dvc repro splits")
    sources = {
        name: _read(PREPARED / name / "manifest.json", "prepare", "digest")["digest"]
        for name in params.finetune.sources
    }
    asked = {name: value for name in ("files", "judge") if (value := params.evaluate.model_dump()[name])}
    return {**sources, "splits": file_digest(ASSIGNMENTS), **({"asked": digest(asked)} if asked else {})}


def _told(judged: promotion.Promotion) -> str:
    if judged.moved:
        return f"register: version {judged.version} is the champion now (before: {judged.before or 'none'})"
    if judged.before == judged.version:
        return f"register: version {judged.version} stays the champion"
    return f"register: the gate refused version {judged.version}; champion: {judged.before or 'none'}"


def _aliases(name: str, version: int) -> list[str]:
    with store.answering(store.tracking_uri()):
        return sorted(alias for alias, number in registry.aliases(store.connect(), name).items() if number == version)


def _read(path: Path, made_by: str, *keys: str) -> Any:
    return read_json(path, f"run: dvc repro --force {made_by}", keys)


if __name__ == "__main__":
    stage.main(run)
