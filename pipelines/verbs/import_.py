"""`lea import`: parts that others have trained, as parts of this project."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "read parts that others have trained: the authors' adapter_weight.pth"
KINDS = ("authors",)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("folder", type=Path, help="holds adapter_weight.pth, and their config.yaml where it has one")
    parser.add_argument("--out", type=Path, default=Path("models/imported"), help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.model.authors import import_parts
    from components.workspace import BASE

    counts = import_parts(arguments.folder, BASE, arguments.out)
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), "tensors": counts}))
        return
    print(
        f"{arguments.out}: {counts['connector']} tensors of the connector and {counts['adapter']} of the adapter, "
        "in their released form"
    )
