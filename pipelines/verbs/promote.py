"""`lea promote`: move `champion` (or another alias) to a version, through the gate."""

from __future__ import annotations

import argparse
import json

SUMMARY = "move `champion` to a version, through the gate"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "version", nargs="?", default="candidate", help="version number or alias (default: %(default)s)"
    )
    parser.add_argument("--to", default="champion", metavar="ALIAS", help="the alias to move (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="move it even if the gate refuses; the log records that")
    parser.add_argument("--dry-run", action="store_true", help="judge and print; write nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.errors import UserError
    from components.params import load_params
    from components.tracking.promotion import promote
    from pipelines import register

    params = load_params()
    done = promote(
        params.registry.name,
        arguments.version,
        params.registry.gate,
        measure=register.again(params),
        force=arguments.force,
        alias=arguments.to,
        dry_run=arguments.dry_run,
    )
    name = f"{done.name} version {done.version}"
    if arguments.json:
        print(json.dumps({**vars(done), "dry_run": arguments.dry_run}))
    else:
        print("\n".join(f"  {reason}" for reason in done.reasons))
        moves = f"would be {done.alias}" if arguments.dry_run else f"is {done.alias} now"
        before = f"(before: {done.before or 'none'})"
        stays = f"is {done.alias} already" if done.before == done.version else f"nothing moved {before}"
        print(f"{name}: {f'{moves} {before}' if done.moved else stays}")
    if not done.passed and not done.moved and done.before != done.version:
        why = f"it was rolled back; lea promote {done.version} --force" if done.rolled_back else "the gate refused it"
        raise UserError(f"{name} was not promoted: {why}")
