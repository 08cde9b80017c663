"""`lea export`: a registered model in a form that others load."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "write a registered model as a folder that others load"
FORMS = {"vllm": "a Hugging Face folder with its code, for transformers and engines that build on it"}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("form", choices=list(FORMS), help="; ".join(f"{name}: {said}" for name, said in FORMS.items()))
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--model", default="models:/lea@champion", help="MLflow model URI (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.serving.export import export, summary

    loaded = export(arguments.model, arguments.folder)
    told = {"model": loaded.name, "version": loaded.version, **summary(arguments.folder)}
    if arguments.json:
        print(json.dumps(told))
    else:
        print(f"{loaded.name} version {loaded.version}: {told['bytes']:,} bytes in {arguments.folder}")
