"""The copy of the promotion log in the home folder: for people, and to notice what was deleted in the registry."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from components.digests import digest
from components.files import write_text
from components.tracking import promotion_log, registry, store
from components.tracking.promotion_log import Log
from components.workspace import home

if TYPE_CHECKING:
    from mlflow import MlflowClient

COPY_FILE = "promotions.jsonl"
STORE_FILE = "promotions.store"  # beside it: which store the copy is of


def as_lines(log: Log) -> list[dict[str, Any]]:
    """The entries for people and programs, oldest first."""
    return [
        {
            "number": number,
            "when": entry.when,
            "who": entry.who,
            "model": entry.model,
            "alias": entry.alias,
            "from": entry.start,
            "to": entry.to,
            "source": entry.kind,
            "passed": entry.passed,
            "moved": entry.moved,
            "reason": "; ".join(entry.reasons),
            "metrics": dict(entry.metrics),
            "digest": entry.digest,
            "before": entry.before,
            "gap": number in log.gaps,
        }
        for number, entry in zip(log.numbers, log.entries, strict=True)
    ]


def write(client: MlflowClient, log: Log) -> None:
    """Bring the copy up to date; it is whole at any time, and only a copy."""
    identity, stated = store.registry_identity(client), home() / STORE_FILE
    lines = [json.dumps(line, ensure_ascii=False) + "\n" for line in as_lines(log)]
    try:
        known = stated.is_file() and stated.read_text(encoding="utf-8") == identity
        if not known:
            stated.unlink(missing_ok=True)  # a command that is stopped here must not leave it beside another's copy
        write_text(home() / COPY_FILE, "".join(lines))
        if not known:
            write_text(stated, identity)
    except OSError as error:
        print(f"tracking: {home() / COPY_FILE} cannot be written ({error.strerror}); the log is in the registry")


def report_missing(client: MlflowClient, name: str, log: Log) -> None:
    """Print which entries the copy has and the registry has no longer, and keep that copy aside.

    Nobody but the registry says who is champion; yet a champion that the gate compared with must not go unnoticed.
    """
    present = {one.digest for one in log.entries}
    gone = [line for line in _lines(client, name) if line["digest"] not in present]
    if not gone:
        return
    held = {line["to"] for line in gone if line["moved"] and line["alias"] == registry.CHAMPION and line["to"]}
    bars = sorted(held - set(log.holders(registry.CHAMPION, {})))
    what = "; ".join(f"{line['number']}: {line['alias']} {line['from'] or 'none'} -> {line['to']}" for line in gone)
    forgotten = f"; the gate no longer compares with version {', '.join(map(str, bars))}" if bars else ""
    text = (home() / COPY_FILE).read_text(encoding="utf-8")
    aside = home() / f"promotions-{digest(text)[:12]}.jsonl"
    write_text(aside, text)
    print(
        f"tracking: {len(gone)} entries of {promotion_log.log_name(name)} were deleted or changed in the registry "
        f"({what}){forgotten}; the log as it was: {aside}",
        file=sys.stderr,
    )


def _lines(client: MlflowClient, name: str) -> list[dict[str, Any]]:
    """What the copy holds of this log; nothing where it is of another store, or not whole."""
    try:
        if (home() / STORE_FILE).read_text(encoding="utf-8") != store.registry_identity(client):
            return []
        lines = [json.loads(line) for line in (home() / COPY_FILE).read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["model"] == name and {"digest", "number", "moved", "to"} <= line.keys()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
