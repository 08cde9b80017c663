"""`lea clean`: list run state and free it."""

from __future__ import annotations

import argparse
import json

SUMMARY = "list run state (checkpoints, half-finished work) and free it"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--free", action="store_true", help="remove it; finished runs are exported already")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    import shutil

    from components.workspace import home

    runs = sorted((home() / "runs").glob("*"))
    sizes = {run: sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) for run in runs}
    if arguments.json:
        print(json.dumps([{"run": run.name, "bytes": size, "freed": arguments.free} for run, size in sizes.items()]))
    for run, size in sizes.items():
        if not arguments.json:
            print(f"  {size / 1e6:8.1f} MB  {run}")
        if arguments.free:
            shutil.rmtree(run)
    if not arguments.json:
        hint = ", freed" if arguments.free else "; --free removes them"
        print(f"{sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} runs{hint}")
