"""The aliases follow the promotion log: a move that was stopped is finished, one by hand is written down."""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from components.errors import UserError
from components.tracking import promotion_copy, promotion_log, registry, store
from components.tracking.promotion_log import Log
from components.tracking.registry import CHAMPION

if TYPE_CHECKING:
    from mlflow import MlflowClient

WHY_NEVER = {
    "RESOURCE_DOES_NOT_EXIST": "it was deleted in MLflow",
    "INVALID_PARAMETER_VALUE": "MLflow takes no alias of that name; the log says so now",
}
BY_HAND = "the alias was moved outside of lea; noticed by this command"
PATIENCE_S = 0.5  # another command may be between the log and the alias
FOLLOW_TRIES, WAIT_S = 50, 0.05  # of an alias that other commands move at the same time


class Strayed(NamedTuple):
    """An alias that is not where the log says. `stated`: the version that the log states."""

    alias: str
    stated: int | None
    present: int | None


def mended(client: MlflowClient, name: str) -> Log:
    """The log, once every alias is what it says: a move that was stopped is finished, one by hand written down."""
    patient = False
    promotion_copy.report_missing(client, name, promotion_log.read(client, name))
    while True:
        log = promotion_log.read(client, name)
        promotion_log.mark_void(client, name, log)
        entries = zip(log.entries, log.settled, strict=True)
        unfinished = {one.alias for one, settled in entries if one.moved and not settled}
        for alias in unfinished:
            follow(client, name, alias)
        if unfinished:
            continue
        strayed = _strayed(client, name, log)
        if strayed is None:
            promotion_copy.write(client, log)
            return log
        if not patient:
            time.sleep(PATIENCE_S)
            patient = True
            continue
        if promotion_log.read(client, name).head != log.head:
            continue
        if not (_is_late(log, strayed) and _put_back(client, name, strayed)):
            _write_down(client, name, log, strayed)


def follow(client: MlflowClient, name: str, alias: str) -> None:
    """Let the alias follow the log, until no other command has written in between.

    Another command may write an entry, set the alias and settle both between our reading and our setting: then ours
    was the last to set it, to where the log no longer leads, and it is for us to set it again. Where the
    version was deleted, or MLflow refuses the alias, it stays, and the next look at it writes down where it is.
    """
    for _ in range(FOLLOW_TRIES):
        log = promotion_log.read(client, name)
        target = log.moves(alias)[-1][1].to
        there = True
        if target is not None and registry.alias_version(client, name, alias) != target:
            if promotion_log.read(client, name).head != log.head:
                continue
            there = _set(client, name, alias, target)
        _settle(client, name, alias, log)
        if promotion_log.read(client, name).head != log.head:
            continue
        if not there or target is None or registry.alias_version(client, name, alias) == target:
            promotion_copy.write(client, promotion_log.read(client, name))
            return
        time.sleep(WAIT_S)
    raise UserError(f"the alias {alias} of {name} is moved by others all the time; run the same command again")


def _settle(client: MlflowClient, name: str, alias: str, log: Log) -> None:
    for place, _ in log.moves(alias):
        if not log.settled[place]:
            promotion_log.settle(client, name, log.numbers[place])


def _set(client: MlflowClient, name: str, alias: str, target: int) -> bool:
    """Set an alias. False where that can never be: the version was deleted in MLflow, or MLflow takes no such name."""
    from mlflow.exceptions import MlflowException

    try:
        store.insert(lambda: client.set_registered_model_alias(name, alias, str(target)))
    except MlflowException as error:
        if error.error_code not in WHY_NEVER:
            raise
        why = WHY_NEVER[error.error_code]
        print(f"tracking: {name} version {target} cannot be {alias!r}: {why}", file=sys.stderr)
        return False
    return True


def _strayed(client: MlflowClient, name: str, log: Log) -> Strayed | None:
    """The first alias that is not where the log says."""
    present = registry.aliases(client, name)
    for alias in dict.fromkeys([CHAMPION, *(one.alias for one in log.entries)]):
        moves = log.moves(alias)
        stated = moves[-1][1].to if moves else None
        if present.get(alias) != stated:
            return Strayed(alias, stated, present.get(alias))
    return None


def _is_late(log: Log, strayed: Strayed) -> bool:
    """Whether an alias may have been set by an earlier move of ours, which a server carried out after the last one.

    Its command has given up waiting and asked again, or was stopped; another has finished its move and made one more,
    all within the time that a request may take. Nobody knows when the alias was set.
    """
    if strayed.stated is None or strayed.present is None:
        return False
    *earlier, last = [one for _, one in log.moves(strayed.alias)]
    since = datetime.fromisoformat(last.when) - timedelta(seconds=store.late_s())
    ours = [one for one in earlier if one.kind != "by hand" and one.to == strayed.present]
    return any(datetime.fromisoformat(one.when) > since for one in ours)


def _put_back(client: MlflowClient, name: str, strayed: Strayed) -> bool:
    """Set an alias to where the log says, and print that. False where that version was deleted."""
    alias, stated, present = strayed
    assert stated is not None
    if not _set(client, name, alias, stated):
        return False
    print(
        f"tracking: {alias} of {name} was at version {present}, where an earlier move had put it late; it is at "
        f"{stated} again, as the log says; if you moved it by hand: lea promote {present} --to {alias} --force",
        file=sys.stderr,
    )
    return True


def _write_down(client: MlflowClient, name: str, log: Log, strayed: Strayed) -> None:
    """An entry for a move that was made outside of lea, unless another command has written one meanwhile."""
    alias, stated, present = strayed
    named = {present: client.get_model_version(name, str(present))} if present else {}
    figures = registry.version_metrics(named[present]) if present else {}
    entry = promotion_log.next_entry(
        log, name, alias, stated, present, "by hand", None, True, [BY_HAND], figures, named
    )
    if promotion_log.append(client, log, entry):
        promotion_log.settle(client, name, promotion_log.read(client, name).number_of(entry))
