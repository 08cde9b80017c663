"""`lea promote`: move `champion` to a version, through the gate."""

from __future__ import annotations

import argparse
import json

SUMMARY = "move `champion` to a version, through the gate"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "version", nargs="?", default="candidate", help="version number or alias (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="promote even if the gate refuses; the log says so")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.errors import UserError
    from components.params import load_params
    from components.tracking.promotion import promote
    from pipelines import register

    params = load_params()
    registry = params.registry
    measure = register.again(params)
    done = promote(registry.name, arguments.version, registry.gate, measure=measure, force=arguments.force)
    if arguments.json:
        print(json.dumps(vars(done)))
    else:
        print("\n".join(f"  {reason}" for reason in done.reasons))
        print(f"{done.name} version {done.version}: " + ("champion now" if done.moved else "nothing moved"))
    if not done.passed and not done.moved:
        raise UserError(f"{done.name} version {done.version} was not promoted: the gate refused it")
