"""`lea profile`: merge a profile into params.yaml."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

SUMMARY = "merge a profile into params.yaml and show the difference"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="without a name: list the profiles")
    parser.add_argument("--check", action="store_true", help="only check that params.yaml is valid")


def run(arguments: argparse.Namespace) -> None:
    from components.params import load_params, profiles
    from components.params.reading import PARAMS_FILE, read_text
    from pipelines.names import check_names

    if arguments.check or not arguments.name:
        params = load_params()
        check_names(params)
        print(f"params.yaml is valid (profile {params.profile}); lea plan checks it against the model")
        if not arguments.check:
            print("profiles: " + ", ".join(profiles.names()))
        return
    profiles.load(arguments.name)  # or says what is wrong before anything is written
    kept = _kept(read_text(PARAMS_FILE))
    changes = profiles.apply(arguments.name)
    for key, before, after in changes:
        old = "(not set)" if before is profiles.ABSENT else _short(before)
        new = "(removed)" if after is profiles.ABSENT else _short(after)
        print(f"  {key}: {old} -> {new}")
    if changes:
        print(f"params.yaml as it was: {kept}")
    following = "lea plan, then dvc repro" if load_params().training.use_gpu else "dvc repro"
    print(f"params.yaml now has profile {arguments.name}: {len(changes)} settings changed. Next: {following}")


def _kept(text: str) -> Path:
    """Where a copy of the settings lies now: they may hold edits that were never committed."""
    from components.digests import digest
    from components.files import write_text
    from components.workspace import home

    path = home() / "params" / f"{digest(text)[:12]}.yaml"
    write_text(path, text)
    return path


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
