"""`lea rollback`: back to the champion before, without the gate."""

from __future__ import annotations

import argparse
import json

SUMMARY = "back to the champion before, without the gate"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="why the champion goes; the log keeps it")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.params import load_params
    from components.tracking.promotion import rollback

    done = rollback(load_params().registry.name, arguments.reason)
    if arguments.json:
        print(json.dumps(vars(done)))
    else:
        print(f"{done.name} version {done.version} is champion again (before: {done.before})")
