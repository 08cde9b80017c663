"""Moving `champion`: always through the gate, always written down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from components.digests import digest
from components.errors import UserError
from components.locks import lock
from components.metrics import metric
from components.params import Gate
from components.tracking import records, registry, store
from components.tracking.gate import Decision, Figures, Rival, decide
from components.tracking.records import Record
from components.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

LOG_FILE = "promotions.jsonl"
GATE_TAG = "lea.gate"  # the last judgement of a version, so that the same question is not logged twice
CHAMPION_TAG = "lea.champion"  # when a version became champion for the first time

# (parts, folder that refers to the base, record of the version that is judged) -> a record under its conditions.
# UserError where the workspace cannot give that.
Measure = Callable[[Path, Path, Record], Record]


@dataclass(frozen=True)
class Promotion:
    """What became of an attempt. `before`: the champion until then."""

    name: str
    version: int
    before: int | None
    passed: bool
    reasons: list[str]
    moved: bool


@dataclass(frozen=True)
class _Case:
    """A version that is judged, the champion, and those that were champion before."""

    version: ModelVersion
    champion: ModelVersion | None
    former: Sequence[ModelVersion]
    record: Record | None  # by which the version is judged

    @property
    def reigns(self) -> bool:
        return self.champion is not None and _number(self.champion) == _number(self.version)


def promote(
    name: str,
    which: str,
    gate: Gate,
    *,
    record: Record | None = None,
    measure: Measure | None = None,
    force: bool = False,
    source: Literal["repro", "promote"] = "promote",
) -> Promotion:
    """Make a version (number or alias) the champion if the gate lets it, or by force.

    record: what was measured of it now; None: what the registry holds. measure: measures champions again that
    have no figures under the same conditions; this can take long, so nobody is kept waiting for it.
    """
    client = store.connect()
    tried: dict[int, str] = {}  # version -> why it could not be measured
    with store.answering(store.tracking_uri()):
        while True:
            with lock("registry"):
                case = _case(client, name, which, gate, record)
                lacking = [] if force or measure is None else _lacking(case, gate, tried)
                if not lacking:
                    return _settle(client, case, gate, tried, force, source)
            assert measure is not None
            for version in lacking:
                tried[_number(version)] = _measure_again(client, version, case, measure)


def _case(client: MlflowClient, name: str, which: str, gate: Gate, record: Record | None) -> _Case:
    version = registry.resolve(client, name, which)
    before = registry.alias_version(client, name, registry.CHAMPION)
    champion = client.get_model_version(name, str(before)) if before else None
    known = client.search_model_versions(f"name = '{name}'") if gate.compare_with == "best" else []
    former = [one for one in known if CHAMPION_TAG in one.tags and _number(one) not in (_number(version), before)]
    return _Case(version, champion, former, _judged_by(version, champion, record))


def _judged_by(version: ModelVersion, champion: ModelVersion | None, present: Record | None) -> Record | None:
    """The present record (the registered one of the same conditions); without one, that which the champion shares."""
    if present is not None:
        return records.find(version, present.key) or present
    known = list(records.each(version))
    shared = [one for one in known if champion is not None and records.find(champion, one.key)]
    return next(iter([*shared, *known]), None)


def _lacking(case: _Case, gate: Gate, tried: Mapping[int, str]) -> list[ModelVersion]:
    """Whom the version must be compared with and who has no record under its conditions."""
    if case.record is None or case.reigns:
        return []
    key = case.record.key
    return [one for one in _rivals(case, gate) if records.find(one, key) is None and _number(one) not in tried]


def _rivals(case: _Case, gate: Gate) -> list[ModelVersion]:
    """The champion, and for each metric of `not_worse` the one that did best among those before it.

    Best by its own figures, taken under whatever conditions: it says who is worth measuring again.
    """
    chosen = [case.champion] if case.champion is not None and gate.not_worse else []
    for name in gate.not_worse:
        known = [(one, figures[name]) for one in case.former if name in (figures := registry.version_metrics(one))]
        if known:
            best, _ = max(known, key=lambda one: metric(name).gain(one[1], 0.0))
            chosen += [best] if best not in chosen else []
    return chosen


def _measure_again(client: MlflowClient, version: ModelVersion, case: _Case, measure: Measure) -> str:
    """Measure a champion under the conditions of the version that is judged; returns why that was not possible."""
    assert case.record is not None
    print(f"{version.name} version {version.version} is measured again: {_why(version, case.record)}", flush=True)
    try:
        with registry.opened(version) as (parts, base):
            found = measure(parts, base, case.record)
    except (UserError, OSError) as error:
        return f"it cannot be measured again ({error})"
    if not found.whole:
        return "some of its questions failed when it was measured again; run the command again"
    records.add(client, version, found)
    return ""


def _why(version: ModelVersion, record: Record) -> str:
    """Why a version's own figures cannot be compared with a record."""
    known = records.own(version)
    if known is None:
        return "nothing is known of how it was measured"
    found = records.differences(known.conditions, record.conditions)
    return f"it was measured under other conditions: {'; '.join(found)}" if found else "some of its questions failed"


def _settle(
    client: MlflowClient,
    case: _Case,
    gate: Gate,
    tried: Mapping[int, str],
    force: bool,
    source: Literal["repro", "promote"],
) -> Promotion:
    """Judge, write down, move."""
    version, name, number = case.version, case.version.name, _number(case.version)
    before = _number(case.champion) if case.champion else None
    decision, known = _judge(case, gate, tried)
    move = not case.reigns and (decision.passed or force)
    if move or (not case.reigns and not known):
        reasons = decision.reasons if decision.passed or not force else [*decision.reasons, "moved by force"]
        figures = case.record.figures if case.record else {}
        _log(name, before, number, figures, decision.passed, move, reasons, source)
    if not known:
        stored = {"own": _facts(case, gate), **asdict(decision)}
        client.set_model_version_tag(name, str(number), GATE_TAG, json.dumps(stored))
    if move:
        if CHAMPION_TAG not in version.tags:
            client.set_model_version_tag(name, str(number), CHAMPION_TAG, _now())
        client.set_registered_model_alias(name, registry.CHAMPION, str(number))
    return Promotion(name, number, before, decision.passed, decision.reasons, move)


def _judge(case: _Case, gate: Gate, tried: Mapping[int, str]) -> tuple[Decision, bool]:
    """The decision, and whether it was taken before: the champion keeps the judgement that made it champion."""
    stored = json.loads(case.version.tags.get(GATE_TAG, "{}"))
    same = stored.get("own") == _facts(case, gate)
    if same and case.reigns:
        return Decision(stored["passed"], stored["reasons"]), True
    if case.record is None:
        name = f"{case.version.name} version {case.version.version}"
        return Decision(False, [f"failed: nothing was measured of {name}; run dvc repro where it was trained"]), same
    record = case.record
    rivals = [] if case.reigns else [_rival(one, case, tried) for one in _rivals(case, gate)]
    rivals += [] if case.reigns else [_rival(one, case, tried) for one in case.former if _comparable(one, case, rivals)]
    decision = decide(Figures(record.figures, record.blind, record.sighted), rivals, gate)
    return decision, same and (stored["passed"], stored["reasons"]) == (decision.passed, decision.reasons)


def _comparable(version: ModelVersion, case: _Case, rivals: Sequence[Rival]) -> bool:
    """One that was champion, has figures under the same conditions, and is not among `rivals` yet."""
    assert case.record is not None
    there = {rival.version for rival in rivals}
    return _number(version) not in there and records.find(version, case.record.key) is not None


def _rival(version: ModelVersion, case: _Case, tried: Mapping[int, str]) -> Rival:
    assert case.record is not None
    reigns = case.champion is not None and _number(version) == _number(case.champion)
    found = records.find(version, case.record.key)
    if found is not None:
        return Rival(_number(version), reigns, found.figures)
    why = tried.get(_number(version)) or "run lea promote where both can be measured, or dvc repro evaluate register"
    return Rival(_number(version), reigns, None, f"{_why(version, case.record)}; {why}")


def _facts(case: _Case, gate: Gate) -> str:
    """What a judgement of the version itself rests on."""
    return digest([asdict(case.record) if case.record else None, gate.model_dump()])


def _number(version: ModelVersion) -> int:
    return int(version.version)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


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
        "when": _now(),
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
