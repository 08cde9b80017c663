"""Moving `champion`: always through the gate, always written down."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from components.digests import digest
from components.locks import lock
from components.params import Gate
from components.tracking import registry, store
from components.tracking.gate import Decision, decide
from components.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOG_FILE = "promotions.jsonl"
GATE_TAG = "lea.gate"  # the last judgement of a version, so that the same question is not judged and logged twice


@dataclass(frozen=True)
class Promotion:
    """What became of an attempt. `before`: the champion until then."""

    name: str
    version: int
    before: int | None
    passed: bool
    reasons: list[str]
    moved: bool


def promote(
    name: str, which: str, gate: Gate, *, force: bool = False, source: Literal["repro", "promote"] = "promote"
) -> Promotion:
    """Make a version (number or alias) the champion if the gate lets it, or by force."""
    client = store.connect()
    with store.answering(store.tracking_uri()), lock("registry"):
        version = registry.resolve(client, name, which)
        number, before = int(version.version), registry.alias_version(client, name, registry.CHAMPION)
        champion = client.get_model_version(name, str(before)) if before else None
        decision, known = _judge(version, champion, gate)
        move = before != number and (decision.passed or force)
        if move or (before != number and not known):
            reasons = decision.reasons if decision.passed or not force else [*decision.reasons, "moved by force"]
            _log(name, before, number, registry.version_metrics(version), decision.passed, move, reasons, source)
        if not known:
            _remember(client, version, champion, gate, decision)
        if move:
            client.set_registered_model_alias(name, registry.CHAMPION, str(number))
    return Promotion(name, number, before, decision.passed, decision.reasons, move)


def _judge(version: ModelVersion, champion: ModelVersion | None, gate: Gate) -> tuple[Decision, bool]:
    """The decision, and whether it was taken before: the champion keeps the judgement that made it champion."""
    stored = json.loads(version.tags.get(GATE_TAG, "{}"))
    own, rival = _facts(version, gate), _rival(version, champion)
    if stored.get("own") == own and (rival is None or stored.get("rival") == rival):
        return Decision(stored["passed"], stored["reasons"]), True
    metrics = registry.version_metrics(version)
    if champion is None or champion.version == version.version:
        return decide(metrics, None, False, gate), False
    same_data = version.tags.get(registry.DATA_TAG) == champion.tags.get(registry.DATA_TAG)
    return decide(metrics, registry.version_metrics(champion), same_data, gate), False


def _remember(
    client: MlflowClient, version: ModelVersion, champion: ModelVersion | None, gate: Gate, decision: Decision
) -> None:
    value = {"own": _facts(version, gate), "rival": _rival(version, champion), **asdict(decision)}
    client.set_model_version_tag(version.name, str(version.version), GATE_TAG, json.dumps(value))


def _facts(version: ModelVersion, gate: Gate) -> str:
    return digest([_measured(version), gate.model_dump()])


def _rival(version: ModelVersion, champion: ModelVersion | None) -> str | None:
    """Whom the version is compared with; None when it is the champion itself."""
    if champion is None:
        return "nobody"
    if champion.version == version.version:
        return None
    return digest([str(champion.version), _measured(champion)])


def _measured(version: ModelVersion) -> list[str | None]:
    return [version.tags.get(registry.METRICS_TAG), version.tags.get(registry.DATA_TAG)]


def _log(
    name: str,
    before: int | None,
    after: int,
    metrics: Mapping[str, float],
    passed: bool,
    moved: bool,
    reasons: list[str],
    source: str,
) -> None:
    """Append one line. Written before the alias moves: a move that cannot be written down does not happen."""
    line: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "who": store.who(),
        "model": name,
        "from": before,
        "to": after,
        "metrics": dict(metrics),
        "passed": passed,
        "moved": moved,
        "reason": "; ".join(reasons),
        "source": source,
    }
    path = home() / LOG_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, ensure_ascii=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
