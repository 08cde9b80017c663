"""The `lea` command. Heavy libraries are imported by the verb that needs them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NoReturn

from pipelines import stage


def main() -> NoReturn:
    arguments = parser().parse_args()
    sys.exit(stage.guarded(lambda: arguments.verb(arguments)))


def parser() -> argparse.ArgumentParser:
    lea = argparse.ArgumentParser(
        prog="lea", description="Local-Enhanced Adapters: what `dvc repro` does not do itself."
    )
    verbs = lea.add_subparsers(title="verbs", required=True, metavar="VERB")

    verb = verbs.add_parser("profile", help="merge a profile into params.yaml and show the difference")
    verb.add_argument("name", nargs="?", help="without a name: list the profiles")
    verb.add_argument("--check", action="store_true", help="only check that params.yaml is valid")
    verb.set_defaults(verb=profile)

    verb = verbs.add_parser("predict", help="ask a registered model about an image")
    verb.add_argument("--model", default="models:/lea@champion", help="MLflow model URI (default: %(default)s)")
    verb.add_argument("--image", type=Path, help="image file; without one the question is asked as text")
    verb.add_argument("--prompt", required=True, help="the question")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(verb=predict)

    verb = verbs.add_parser("promote", help="move `champion` to a version, through the gate")
    verb.add_argument("version", nargs="?", default="candidate", help="version number or alias (default: %(default)s)")
    verb.add_argument("--force", action="store_true", help="promote even if the gate refuses; the log says so")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(verb=promote)

    verb = verbs.add_parser("clean", help="list run state (checkpoints, half-finished work) and free it")
    verb.add_argument("--free", action="store_true", help="remove it; finished runs are exported already")
    verb.add_argument("--json", action="store_true", help="print JSON")
    verb.set_defaults(verb=clean)
    return lea


def profile(arguments: argparse.Namespace) -> None:
    from components import profiles
    from components.params import load_params

    if arguments.check or not arguments.name:
        params = load_params()
        print(f"params.yaml is valid (profile {params.profile})")
        if not arguments.check:
            print("profiles: " + ", ".join(profiles.names()))
        return
    changes = profiles.apply(arguments.name)
    for key, before, after in changes:
        print(f"  {key}: {_short(before)} -> {_short(after)}")
    print(f"params.yaml now has profile {arguments.name}: {len(changes)} settings changed. Next: dvc repro")


def predict(arguments: argparse.Namespace) -> None:
    from components.predict import predict as answer

    text = answer(arguments.model, arguments.image, arguments.prompt)
    print(json.dumps({"answer": text}) if arguments.json else text)


def promote(arguments: argparse.Namespace) -> None:
    from components.errors import UserError
    from components.params import load_params
    from components.tracking.promotion import promote as through_gate

    registry = load_params().registry
    done = through_gate(registry.name, arguments.version, registry.gate, force=arguments.force)
    if arguments.json:
        print(json.dumps(vars(done)))
    else:
        print("\n".join(f"  {reason}" for reason in done.reasons))
        print(f"{done.name} version {done.version}: " + ("champion now" if done.moved else "nothing moved"))
    if not done.passed and not done.moved:
        raise UserError(f"{done.name} version {done.version} was not promoted: the gate refused it")


def clean(arguments: argparse.Namespace) -> None:
    import shutil

    from components.home import home

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
        done = "freed" if arguments.free else "in"
        print(
            f"{sum(sizes.values()) / 1e6:.1f} MB {done} {len(sizes)} runs"
            + ("" if arguments.free else "; --free removes them")
        )


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


if __name__ == "__main__":
    main()
