"""`lea fetch`: published data and weights by name, into data/raw or models, tracked by DVC."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.fetching.fetch import Errand

SUMMARY = "fetch published data and weights by name, resumed and checked, and track them"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to fetch (default: list what there is)")
    parser.add_argument("--yes", action="store_true", help="agree to sizes and licences without being asked")
    parser.add_argument("--hours", type=float, default=24.0, help="give up after so long (default: 24)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.costs import units
    from components.fetching.catalogue import find, load
    from components.fetching.download import Limits
    from components.fetching.fetch import errand

    units.not_negative(arguments.hours, "--hours")
    catalogue = load()
    if not arguments.names:
        _list(catalogue, arguments.json)
        return
    _check_dvc()
    entries = {name: find(name, catalogue) for name in arguments.names}
    tasks = [errand(name, entry) for name, entry in entries.items()]
    _tell(tasks)
    if any(task.missing for task in tasks) and not arguments.yes:
        _ask()
    limits = Limits(time.monotonic() + arguments.hours * 3600)
    fetched = _fetch(tasks, limits)
    if arguments.json:
        print(json.dumps(fetched))
    else:
        _tell_next(tasks)


def _fetch(tasks: list[Errand], limits: Any) -> list[dict[str, Any]]:
    from components.fetching.fetch import carry_out
    from components.locks import lock
    from components.progress import Bar

    fetched = []
    for task in tasks:
        with lock(f"fetch-{task.folder.name}"), Bar(f"{task.name}, MB", round(task.num_bytes / 1e6) or None) as bar:
            new = carry_out(task, limits, lambda done, what, bar=bar: bar.at(round(done / 1e6), what))
            _dvc("add", "-q", str(task.folder))
        fetched.append({"name": task.name, "folder": str(task.folder), "files": [str(path) for path in new]})
    return fetched


def _list(catalogue: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: entry.model_dump(by_alias=True) for name, entry in catalogue.items()}))
        return
    for name, entry in catalogue.items():
        print(f"{name}\n  {entry.about}\n  licence: {entry.licence}\n  into: {entry.folder}\n")
    print("Fetch one or more by name, as in: lea fetch scienceqa")


def _tell(tasks: list[Errand]) -> None:
    """Sizes and licences, before anything is fetched."""
    from components.masking import masked

    for task in tasks:
        size = f"{task.num_bytes / 1e9:.2f} GB" + ("" if task.all_known else " and what the server does not say before")
        here = f", {len(task.present)} are here" if task.present else ""
        print(f"{task.name}: {task.entry.about}", file=sys.stderr)
        print(f"  {len(task.missing)} files to fetch ({size}){here}, into {task.folder}", file=sys.stderr)
        print(f"  licence: {task.entry.licence} (as far as it is known here: read it at its source)", file=sys.stderr)
        for one in task.missing:
            known = "" if one.digest_known else ", digest not known before: noted when it is here"
            print(f"    {masked(one.url)}{known}", file=sys.stderr)


def _ask() -> None:
    from components.errors import UserError

    if not sys.stdin.isatty():
        raise UserError("lea fetch asks for consent to sizes and licences; add --yes")
    print("Fetch them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UserError("nothing was fetched: sizes and licences were not agreed to")


def _tell_next(tasks: list[Errand]) -> None:
    for folder in dict.fromkeys(task.folder for task in tasks):
        written = (f"{folder}.dvc", f"{folder}.sources.json", f"{folder.parent}/.gitignore")
        print(f"{folder} is tracked; keep it: git add {' '.join(name for name in written if Path(name).exists())}")
    for task in tasks:
        if task.entry.by_hand:
            print(f"{task.name}: {task.entry.by_hand}")


def _check_dvc() -> None:
    from components.errors import UserError

    if not Path(".dvc").is_dir():
        raise UserError(f"{Path.cwd()} is no DVC repository; run it where params.yaml is, or: dvc init")


def _dvc(*words: str) -> None:
    import subprocess

    from components.errors import UserError

    done = subprocess.run([sys.executable, "-m", "dvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit {done.returncode}"
        raise UserError(f"dvc {' '.join(words)}: {said[-300:]}")
