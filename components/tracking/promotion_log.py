"""The promotion log: every decision on a version, kept in the registry itself as a chain.

MLflow has no compare-and-set, but it numbers the versions of a registered model one by one, whoever makes them. So
each entry is a version of the model `NAME-promotions`, with the entry in its tags, and names the digest of the entry
before it. An entry that names another one lost a race and is void: its writer reads the log and decides again.

The log comes first and the alias follows it. An entry is `settled` once its alias has been set; one that is not
settled belongs to a command that was stopped, and the next command finishes it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from components.digests import digest
from components.errors import UserError
from components.tracking import store
from components.tracking.version_files import MODEL_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

ENTRY_TAG, SETTLED_TAG, VOID_TAG = "lea.entry", "lea.settled", "lea.void"
# A version must have one, and an entry has no files. A server takes no relative path.
SOURCE = "lea:/promotion"
FORCED = "moved by force"  # among the reasons of an entry that the gate did not let through
LASTING = ("PERMISSION_DENIED", "UNAUTHENTICATED", "INVALID_PARAMETER_VALUE")  # no second try mends these
DIGESTS = "digests"  # in an entry: of the models whose versions it names, by number; old entries have none
TRIES, WAIT_S = 8, 0.05  # for a number, where others write at the same time

Kind = Literal["repro", "promote", "rollback", "by hand"]


@dataclass(frozen=True)
class Entry:
    """One decision. `before`: the digest of the entry before it, empty for the first.

    `start` and `to` are versions; `to` is None where the alias was deleted by hand. `moved`: the alias goes to `to`.
    `more`: what is written beside (DIGESTS, and what a newer version of lea has), which is part of the digest.
    """

    before: str
    when: str
    who: str
    model: str
    alias: str
    start: int | None
    to: int | None
    kind: Kind
    passed: bool | None
    moved: bool
    reasons: Sequence[str]
    metrics: Mapping[str, float]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return digest(self.as_written())

    def as_written(self) -> dict[str, Any]:
        written = asdict(self)
        return {**written.pop("more"), **written}

    @classmethod
    def from_written(cls, text: str) -> Entry:
        """ValueError where it is no entry."""
        written = json.loads(text)
        own = {one.name for one in fields(cls)} - {"more"}
        if not isinstance(written, dict) or not own <= written.keys():
            raise ValueError("no entry")
        more = {name: value for name, value in written.items() if name not in own}
        return cls(**{name: written[name] for name in own}, more=more)


@dataclass(frozen=True)
class Log:
    """The entries of the chain in order, with their numbers in the registry and which of them are settled.

    gaps: numbers of entries that name one which is not there: it was deleted or changed in the registry.
    void: numbers of entries that lost a race and are not marked so.
    """

    entries: Sequence[Entry]
    numbers: Sequence[int]
    settled: Sequence[bool]
    gaps: Collection[int] = ()
    void: Collection[int] = ()

    @property
    def head(self) -> str:
        """The digest that the next entry must name."""
        return self.entries[-1].digest if self.entries else ""

    @property
    def versions(self) -> set[int]:
        """Every version that was judged or moved."""
        return {one.to for one in self.entries if one.to is not None}

    def number_of(self, entry: Entry) -> int:
        """Where an entry of the chain stands in the registry."""
        return self.numbers[[one.digest for one in self.entries].index(entry.digest)]

    def moves(self, alias: str) -> list[tuple[int, Entry]]:
        """Entries that moved an alias, with their places."""
        return [(place, one) for place, one in enumerate(self.entries) if one.moved and one.alias == alias]

    def _moves_of(self, alias: str, there: Mapping[int, ModelVersion]) -> list[Entry]:
        """Moves of an alias, but for those that speak of other models than those that have the numbers now.

        A registered model that was deleted and made again counts from 1.
        """
        now = {str(number): version.tags.get(MODEL_TAG) for number, version in there.items()}

        def holds(entry: Entry) -> bool:
            return all(now.get(number, then) == then for number, then in entry.more.get(DIGESTS, {}).items())

        return [entry for _, entry in self.moves(alias) if holds(entry)]

    def holders(self, alias: str, there: Mapping[int, ModelVersion]) -> list[int]:
        """Versions that hold or held an alias, the present one last; those that were rolled back are taken out.

        there: the versions that the model has now, by number.
        """
        held: list[int] = []
        for entry in self._moves_of(alias, there):
            if entry.kind == "rollback" and entry.to in held:
                while held[-1] != entry.to:
                    held.pop()
            elif entry.to is not None:
                held.append(entry.to)
        return held

    def why_rolled_back(self, alias: str, version: int, there: Mapping[int, ModelVersion]) -> str | None:
        """The reason for which a version lost an alias by a rollback; None where a person has given it back since."""
        why = None
        for entry in self._moves_of(alias, there):
            if entry.kind == "rollback" and entry.start == version:
                why = "; ".join(entry.reasons)
            elif entry.to == version and (entry.kind == "by hand" or FORCED in entry.reasons):
                why = None
        return why


def log_name(name: str) -> str:
    return f"{name}-promotions"


def read(client: MlflowClient, name: str) -> Log:
    """The chain: entries in the order of their numbers, each naming the one before; void ones are left out.

    A void entry names an earlier one of the chain, behind which another was quicker. One that names none of them has
    lost the entry before it: the chain goes on with it, and has a gap there. The quicker entry may be what was lost.
    So a void entry is marked once it is known, and one whose alias was never set, with a gap behind it, is void too:
    who writes an entry has seen the alias of the one before set.
    """
    found = client.search_model_versions(f"name = '{log_name(name)}'")
    entries: list[Entry] = []
    numbers: list[int] = []
    settled: list[bool] = []
    gaps: list[int] = []
    void: list[int] = []
    known = [""]  # what entries name: the last one, or they are void
    for version in sorted(found, key=lambda one: int(one.version)):
        number = int(version.version)
        try:
            entry = Entry.from_written(version.tags[ENTRY_TAG])
        except (KeyError, ValueError):
            raise UserError(
                f"version {version.version} of {log_name(name)} in the registry is no entry of the promotion log; "
                "delete that version in MLflow"
            ) from None
        if VOID_TAG in version.tags:
            continue
        if entry.before in known[:-1]:
            if entry.digest not in known:  # else it was written twice
                void.append(number)
            continue
        if entry.before != known[-1]:
            if entries and entries[-1].moved and not settled[-1]:
                void.append(numbers.pop())
                entries.pop()
                settled.pop()
            gaps.append(number)
            known.append(entry.before)
        entries.append(entry)
        numbers.append(number)
        settled.append(SETTLED_TAG in version.tags)
        known.append(entry.digest)
    return Log(entries, numbers, settled, [number for number in gaps if number in numbers], void)


def append(client: MlflowClient, log: Log, entry: Entry) -> bool:
    """Write an entry behind `log`; False where another one came in between, and this one is void.

    An entry that was written twice (a server's answer was lost and MLflow asked again) stands in the chain once.
    """
    from mlflow.exceptions import MlflowException

    assert entry.before == log.head
    if not log.entries:  # asked for first: a server with users forbids versions of a model that does not exist
        _make_room(client, entry.model)
    for attempt in range(TRIES):
        try:
            client.create_model_version(
                log_name(entry.model), SOURCE, tags={ENTRY_TAG: json.dumps(entry.as_written(), sort_keys=True)}
            )
            break
        except MlflowException as error:
            if attempt == TRIES - 1 or error.error_code in LASTING:
                raise
            time.sleep(WAIT_S * 2**attempt * (1 + random.random()))  # another took the number, or holds the database
    else:
        raise AssertionError("unreachable")
    after = read(client, entry.model)
    mark_void(client, entry.model, after)
    return entry.digest in [one.digest for one in after.entries]


def next_entry(
    log: Log,
    name: str,
    alias: str,
    start: int | None,
    to: int | None,
    kind: Kind,
    passed: bool | None,
    moved: bool,
    reasons: Sequence[str],
    figures: Mapping[str, float],
    versions: Mapping[int, ModelVersion],
) -> Entry:
    """An entry of now, behind `log`. versions: by number; the digests of those that are named are written beside."""
    who, known = store.who(), {number: one.tags.get(MODEL_TAG) for number, one in versions.items()}
    digests = {str(number): known[number] for number in (start, to) if number is not None and known.get(number)}
    more = {DIGESTS: digests} if digests else {}
    return Entry(log.head, now(), who, name, alias, start, to, kind, passed, moved, list(reasons), dict(figures), more)


def mark_void(client: MlflowClient, name: str, log: Log) -> None:
    """Mark entries that lost a race: they must stay void where the entry that won is deleted."""
    for number in log.void:
        store.insert(lambda number=number: client.set_model_version_tag(log_name(name), str(number), VOID_TAG, "yes"))


def settle(client: MlflowClient, name: str, number: int) -> None:
    """Mark that the alias of an entry has been set."""
    store.insert(lambda: client.set_model_version_tag(log_name(name), str(number), SETTLED_TAG, "yes"))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make_room(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            log_name(name), description=f"The promotion log of {name}: each version is one decision. Do not edit."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
