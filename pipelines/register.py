"""Stage `register`: the trained model becomes a version of the registry, and the champion if the gate lets it.

It runs on every `dvc repro`, so that the registry matches the workspace after a cached run too; a model that
is registered already is not registered again. What a tracking server missed of the training runs is sent here too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import read_json, write_json
from components.metrics import flat_metrics
from components.model.stored import model_digest
from components.params import Params
from components.tracking import answers, promotion, registry, runs, store
from components.tracking.gate import is_empty, unnamed
from components.tracking.records import Record, seal
from components.workspace import ANSWERS, BASE, FINETUNE, MEASURED, METRICS, REGISTRATION, home
from pipelines import stage


def run(params: Params) -> None:
    record = present_record(params)
    runs.send_missing(home() / "runs")
    done = registry.register(FINETUNE, BASE, record, params)
    print(f"register: {done.name} version {done.version}{'' if done.new else ' (registered before)'}, candidate")

    keep_answers(done, record)
    outcome: dict[str, Any] = {"passed": None, "reasons": ["an experiment registers a candidate only"]}
    if not os.environ.get("DVC_EXP_NAME"):
        gate = params.registry.gate
        judged = promotion.promote(
            done.name, str(done.version), gate, record=record, measure=again(params), source="repro"
        )
        outcome = {"passed": None if is_empty(gate) else judged.passed, "reasons": judged.reasons}
        for reason in judged.reasons:
            print(f"  {reason}")
        if free := [] if is_empty(gate) else unnamed(record.figures, gate):
            print(f"  no condition names {', '.join(free)}: a champion may be worse there (registry.gate)")
        print(_told(judged, is_empty(gate)))
    write_json(
        REGISTRATION,
        {
            "name": done.name,
            "version": done.version,
            "model": done.digest,
            "aliases": _aliases(done.name, done.version),
            "gate": outcome,
        },
    )


def keep_answers(done: registry.Registered, record: Record) -> None:
    """Put what was answered beside the run that trained the model: `lea compare` finds it there."""
    files = [path for path in (ANSWERS, MEASURED) if path.is_file()]
    with store.answering(store.tracking_uri()):
        client = store.connect()
        version = client.get_model_version(done.name, str(done.version))
        assert version.run_id, "every version is made from a run"
        answers.keep(client, version.run_id, record.key, files)


def present_record(params: Params) -> Record:
    """What the stage `evaluate` measured; UserError where model or figures have changed since."""
    tree, measured = _read(METRICS, "evaluate", "finetune"), _read(MEASURED, "evaluate", "model")
    settings = _read(FINETUNE / "model.json", "finetune")
    if measured["model"] != model_digest(FINETUNE):
        raise UserError(f"{FINETUNE} has changed since it was evaluated; run: dvc repro evaluate")
    if measured.get("seal") != seal(tree, measured):
        raise UserError(f"{METRICS} or {MEASURED.name} is not what the evaluation wrote; run: dvc repro -sf evaluate")
    for name in ("template", "image"):
        if settings[name] != measured[name]:
            raise UserError(
                f"{FINETUNE} was trained with finetune.{name} {settings[name]} and evaluated with {measured[name]}; "
                "run: dvc repro"
            )
    by = "experiment" if os.environ.get("DVC_EXP_NAME") else "evaluate"
    sighted, stated = (
        flat_metrics(measured["sighted"]),
        {k: v for k, v in measured.items() if k not in ("sighted", "seal")},
    )
    return Record(stated, flat_metrics(tree["finetune"]), flat_metrics(tree.get("blind", {})), sighted, by)


def again(params: Params) -> promotion.Measure:
    """Measures a champion on the questions and with the settings of this workspace, by the stage `evaluate`'s path."""

    def measure(parts: Path, base: Path, like: Record) -> Record:
        from pipelines.evaluate import measure_again

        figures = flat_metrics(measure_again(params, base, parts, like.conditions))
        measured = {"model": model_digest(parts), "data": like.measured["data"], "conditions": like.conditions}
        return Record(measured, figures, {}, {}, "gate")

    return measure


def _told(judged: promotion.Promotion, empty: bool) -> str:
    if judged.moved:
        return f"register: version {judged.version} is the champion now (before: {judged.before or 'none'})"
    if judged.before == judged.version:
        return f"register: version {judged.version} stays the champion"
    if judged.rolled_back:
        why = f"it was rolled back; champion: {judged.before or 'none'}"
        return f"register: version {judged.version} stays candidate: {why}"
    if empty:
        return f"register: version {judged.version} was not judged; champion: {judged.before or 'none'}"
    return f"register: the gate refused version {judged.version}; champion: {judged.before or 'none'}"


def _aliases(name: str, version: int) -> list[str]:
    with store.answering(store.tracking_uri()):
        return sorted(alias for alias, number in registry.aliases(store.connect(), name).items() if number == version)


def _read(path: Path, made_by: str, *keys: str) -> Any:
    if not path.is_file():
        raise UserError(f"{path} is missing; run: dvc repro {made_by}")
    return read_json(path, f"run: dvc repro -sf {made_by}", keys)


if __name__ == "__main__":
    stage.main(run)
