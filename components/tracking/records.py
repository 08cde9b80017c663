"""What was measured of a version and how: records that are written once and never changed.

A version's own record (tag `lea.record`) comes from the evaluation that made the version. Measured again under other
conditions it gets further records, each under the digest of its conditions: `lea.record.<digest>` by the stage
`evaluate` or by the gate, `lea.experiment.<digest>` by an experiment, which the gate never reads. (A version that an
experiment made has that experiment's figures as its own record.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from components.digests import digest
from components.tracking import store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

OWN_TAG, EXPERIMENT_TAG = "lea.record", "lea.experiment"


@dataclass(frozen=True)
class Record:
    """Flat metrics of one model.

    measured: `model` and `base` by digest, `data` (digest by source), `template` and `image` in which it was asked,
        and `conditions`: what must be equal before figures may be compared (questions, settings, code, versions).
    figures: of the fine-tuned row. blind: of the same model shown the image of another dish. sighted: as `figures`,
        over the questions of `blind` alone.
    by: evaluate | experiment | gate
    """

    measured: Mapping[str, Any]
    figures: Mapping[str, float]
    blind: Mapping[str, float]
    sighted: Mapping[str, float]
    by: str

    @property
    def conditions(self) -> Mapping[str, Mapping[str, str]]:
        return self.measured["conditions"]

    @property
    def key(self) -> str:
        return digest(self.conditions)[:16]

    @property
    def whole(self) -> bool:
        """No question failed, no answer is without a grade: such figures say too little of a model, or too much."""
        return not any(name.endswith((".failed", ".ungraded")) and value for name, value in self.figures.items())


def own(version: ModelVersion) -> Record | None:
    return _read(version, OWN_TAG)


def find(version: ModelVersion, key: str) -> Record | None:
    """The whole record under these conditions: the version's own, else a further one."""
    found = [own(version), _read(version, f"{OWN_TAG}.{key}")]
    return next((record for record in found if record and record.key == key and record.whole), None)


def each(version: ModelVersion) -> Iterator[Record]:
    """The version's own record, then its further ones; experiments' are left out."""
    further = sorted(tag for tag in version.tags if tag.startswith(f"{OWN_TAG}."))
    yield from (record for tag in (OWN_TAG, *further) if (record := _read(version, tag)))


def seal(tree: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """The digest that holds the figures of metrics.json and what is stated of them together."""
    return digest([tree, {name: value for name, value in measured.items() if name != "seal"}])


def as_tag(record: Record) -> str:
    return json.dumps(asdict(record), sort_keys=True)


def add(client: MlflowClient, version: ModelVersion, record: Record) -> None:
    """Write a further record, unless the version has a whole one under these conditions.

    A full evaluation takes the place of what the gate measured, which has no blind row.
    """
    tag = f"{EXPERIMENT_TAG if record.by == 'experiment' else OWN_TAG}.{record.key}"
    known = find(version, record.key)
    fuller = known is not None and known.by == "gate" and record.by == "evaluate"
    if record.whole and (fuller or (known is None and tag not in version.tags)):
        store.insert(lambda: client.set_model_version_tag(version.name, str(version.version), tag, as_tag(record)))


def differences(one: Mapping[str, Mapping[str, str]], other: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What differs between the conditions of two records, in words."""
    found = []
    for part in dict.fromkeys([*one, *other]):
        here, there = one.get(part, {}), other.get(part, {})
        for name in dict.fromkeys([*here, *there]):
            mine, theirs = here.get(name, "none"), there.get(name, "none")
            if mine != theirs:
                found.append(_in_words(part, name, mine, theirs))
    return found


def _in_words(part: str, name: str, mine: Any, theirs: Any) -> str:
    if part == "questions":
        lack = " (asked once only)" if "none" in (mine, theirs) else ""
        return f"the questions of {name}{lack}"
    if part == "code":
        return f"the code of {name}"
    return f"{name} ({mine} and {theirs})"


def _read(version: ModelVersion, tag: str) -> Record | None:
    value = version.tags.get(tag)
    return Record(**json.loads(value)) if value else None
