"""What the gate is shown: a version with its figures, and the champions with theirs under the same conditions.

Champions that were measured under other conditions are measured again, where the workspace allows it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from components.digests import digest
from components.errors import UserError
from components.metrics import metric
from components.params import Gate
from components.tracking import records, registry, store, version_files
from components.tracking.gate import Decision, Figures, Rival, decide, finite
from components.tracking.records import Record

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ORIGINS = ("evaluate", "experiment", "gate")  # of a record, as `by` has it
GATE_TAG = "lea.gate"  # the last judgement of a version, so that the same question is not logged twice

# (parts, folder that refers to the base, record of the version that is judged) -> a record under its conditions.
# UserError where the workspace cannot give that.
Measure = Callable[[Path, Path, Record], Record]


@dataclass(frozen=True)
class Case:
    """A version that is judged, the champion, and those that were champion before."""

    version: ModelVersion
    champion: ModelVersion | None
    former: Sequence[ModelVersion]
    record: Record | None  # by which the version is judged
    rolled_back: str | None = None  # the reason for which the version lost the alias that it is judged for

    @property
    def is_champion(self) -> bool:
        return self.champion is not None and number(self.champion) == number(self.version)

    @property
    def is_barred(self) -> bool:
        """Whether the gate is not asked: a person took the alias from the version, and only a person gives it back."""
        return self.rolled_back is not None and not self.is_champion


@dataclass
class Measured:
    """What was measured again for a case: records by version, or why there is none."""

    records: dict[int, Record] = field(default_factory=dict)
    why: dict[int, str] = field(default_factory=dict)

    def of(self, version: ModelVersion, key: str) -> Record | None:
        found = self.records.get(number(version))
        return found if found is not None and found.key == key else records.find(version, key)


def number(version: ModelVersion) -> int:
    return int(version.version)


def open_case(
    version: ModelVersion,
    champion: ModelVersion | None,
    holders: Sequence[int],
    there: Mapping[int, ModelVersion],
    present: Record | None,
    rolled_back: str | None,
) -> Case:
    """`holders`: versions that hold or held `champion`. `present`: what was measured of it now, if anything.

    `there`: all versions by number.
    """
    apart = {number(version), *([number(champion)] if champion else [])}
    former = [there[one] for one in dict.fromkeys(holders) if one in there and one not in apart]
    return Case(version, champion, former, _judged_by(version, champion, present), rolled_back)


def _judged_by(version: ModelVersion, champion: ModelVersion | None, present: Record | None) -> Record | None:
    """The present record (the registered one of the same conditions); without one, that which the champion shares.

    The stage's own first: an experiment may have asked easier questions, and what the gate measured has no blind row.
    """
    if present is not None:
        found = records.find(version, present.key)
        return found if found is not None and found.by != "gate" else present  # the gate measures no blind row
    known = sorted(records.each(version), key=lambda one: ORIGINS.index(one.by))
    shared = [one for one in known if champion is not None and records.find(champion, one.key)]
    return next(iter([*shared, *known]), None)


def lacking(case: Case, gate: Gate, measured: Measured) -> list[ModelVersion]:
    """Whom the version must be compared with and who has no record under its conditions."""
    if case.record is None or case.is_champion or case.is_barred:
        return []
    key = case.record.key
    return [one for one in _rivals(case, gate) if not measured.of(one, key) and number(one) not in measured.why]


def _rivals(case: Case, gate: Gate) -> list[ModelVersion]:
    """The champion, and for each metric of `not_worse` those before it that may have done best."""
    chosen = [case.champion] if case.champion is not None and gate.not_worse else []
    for name in gate.not_worse if gate.compare_with == "best" else ():
        chosen += [one for one in _best(case.former, name) if one not in chosen]
    return chosen


def _best(former: Sequence[ModelVersion], name: str) -> list[ModelVersion]:
    """The versions that no other is known to equal or surpass in a metric: who is worth measuring again.

    Figures say something of each other where they were taken under the same conditions: 0.99 on easy questions must
    not hide 0.83 on hard ones. Mostly one remains: each promotion measures the best before it anew.
    """
    best: list[tuple[ModelVersion, dict[str, float]]] = []
    for version in former:
        figures = _by_conditions(version, name)
        if figures and not any(_surpasses(other, figures, name) for _, other in best):
            best = [one for one in best if not _surpasses(figures, one[1], name)]
            best.append((version, figures))
    return [version for version, _ in best]


def _by_conditions(version: ModelVersion, name: str) -> dict[str, float]:
    """A metric of a version under each digest of conditions; under none for a figure without a record."""
    own = registry.version_metrics(version)
    found = {"": own[name]} if finite(own, name) and records.own(version) is None else {}
    known = (record for record in records.each(version) if record.whole and finite(record.figures, name))
    return found | {record.key: record.figures[name] for record in known}


def _surpasses(one: Mapping[str, float], other: Mapping[str, float], name: str) -> bool:
    """Whether one version is at least as good as another under all conditions that both have, one of them at least."""
    both = one.keys() & other.keys()
    return bool(both) and all(metric(name).gain(one[key], other[key]) >= 0 for key in both)


def measure_again(version: ModelVersion, case: Case, measure: Measure, measured: Measured) -> None:
    """Measure a champion under the conditions of the version that is judged, or note why that was not possible."""
    assert case.record is not None
    print(f"{version.name} version {version.version} is measured again: {_why(version, case.record)}", flush=True)
    try:
        with version_files.opened(version) as (parts, base):
            found = measure(parts, base, case.record)
    except (UserError, OSError) as error:
        measured.why[number(version)] = f"it cannot be measured again ({error})"
        return
    if found.whole:
        measured.records[number(version)] = found
    else:
        measured.why[number(version)] = "some of its questions failed when it was measured again; run it again"


def _why(version: ModelVersion, record: Record) -> str:
    """Why a version's own figures cannot be compared with a record."""
    known = records.own(version)
    if known is None:
        return "nothing is known of how it was measured"
    found = records.differences(known.conditions, record.conditions)
    return f"it was measured under other conditions: {'; '.join(found)}" if found else "some of its questions failed"


def judge(case: Case, gate: Gate, measured: Measured, alias: str = registry.CHAMPION) -> tuple[Decision, bool]:
    """The decision, and whether it was taken before: the champion keeps the judgement that made it champion."""
    stored = json.loads(case.version.tags.get(gate_tag(alias), "{}"))
    same = stored.get("own") == _facts(case, gate)
    if same and case.is_champion:
        return Decision(stored["passed"], stored["reasons"]), True
    decision = _decision(case, gate, measured)
    return decision, same and (stored["passed"], stored["reasons"]) == (decision.passed, decision.reasons)


def _decision(case: Case, gate: Gate, measured: Measured) -> Decision:
    record, number = case.record, case.version.version
    if case.is_barred:
        remedy = f"to make it champion again all the same: lea promote {number} --force"
        return Decision(False, [f"failed: version {number} was rolled back ({case.rolled_back}); {remedy}"])
    if record is None:
        name = f"{case.version.name} version {number}"
        return Decision(False, [f"failed: nothing was measured of {name}; run dvc repro where it was trained"])
    rivals = [] if case.is_champion else _compared(case, gate, measured)
    return decide(Figures(record.figures, record.blind, record.sighted), rivals, gate)


def remember(client: MlflowClient, case: Case, gate: Gate, decision: Decision, alias: str = registry.CHAMPION) -> None:
    stored = {"own": _facts(case, gate), **asdict(decision)}
    name, number = case.version.name, str(case.version.version)
    store.insert(lambda: client.set_model_version_tag(name, number, gate_tag(alias), json.dumps(stored)))


def gate_tag(alias: str) -> str:
    """Where the judgement for an alias is kept: a refusal for one is none for another."""
    return GATE_TAG if alias == registry.CHAMPION else f"{GATE_TAG}.{alias}"


def _compared(case: Case, gate: Gate, measured: Measured) -> list[Rival]:
    """The champion, the best before it, and all others before it that have figures under the same conditions."""
    assert case.record is not None
    key, chosen = case.record.key, _rivals(case, gate)
    if gate.compare_with == "best":
        chosen += [one for one in case.former if one not in chosen and measured.of(one, key)]
    return [_rival(one, case, measured) for one in chosen]


def _rival(version: ModelVersion, case: Case, measured: Measured) -> Rival:
    assert case.record is not None
    is_champion = case.champion is not None and number(version) == number(case.champion)
    found = measured.of(version, case.record.key)
    if found is not None:
        return Rival(number(version), is_champion, found.figures)
    why = measured.why.get(number(version)) or "it can be measured again where this version was trained: dvc repro"
    return Rival(number(version), is_champion, None, f"{_why(version, case.record)}; {why}")


def _facts(case: Case, gate: Gate) -> str:
    """What a judgement of the version itself rests on."""
    return digest([asdict(case.record) if case.record else None, gate.model_dump()])
