"""`lea history`: the promotion log, as the registry holds it."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient

    from components.tracking.promotion_log import Log

SUMMARY = "every decision on `champion`: who, when, from, to, why; and the versions there are"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.locks import lock
    from components.params import load_params
    from components.tracking import promotion_copy, registry, store

    name = load_params().registry.name
    lines, there, aliases = [], {}, {}
    if store.is_there():
        client = store.connect()
        with store.answering(store.tracking_uri()), lock("registry"):
            lines = promotion_copy.as_lines(_log(client, name))
            there, aliases = registry.versions(client, name), registry.aliases(client, name)
    if arguments.json:
        print(json.dumps(lines))
        return
    if not lines:
        print(f"nothing was decided on {name} yet")
    for line in lines:
        if line["gap"]:
            print("(what was written here was deleted or changed in the registry)")
        to = line["to"] or "none"
        what = f"{line['from'] or 'none'} -> {to}" if line["moved"] else f"version {to} refused"
        print(f"{line['when']}  {line['who']}  {line['source']}  {line['alias']}: {what}  ({line['reason']})")
    if there:
        print("versions: " + ", ".join(_shown(number, aliases) for number in sorted(there)))


def _shown(version: int, aliases: Mapping[str, int]) -> str:
    """`3 (candidate, champion)`, or `2` where no alias points to it."""
    names = ", ".join(sorted(alias for alias, number in aliases.items() if number == version))
    return f"{version} ({names})" if names else str(version)


def _log(client: MlflowClient, name: str) -> Log:
    """The log, mended where the server lets this user write."""
    from mlflow.exceptions import MlflowException

    from components.tracking import mending, promotion_log

    try:
        return mending.mended(client, name)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        print(f"({name}: you may not write here; what another command must mend is not in this list)", file=sys.stderr)
        return promotion_log.read(client, name)
