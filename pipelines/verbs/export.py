"""`lea export`: a registered model in a form that others load."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "write a registered model as a folder that others load"
FORMS = {
    "vllm": "a whole Hugging Face model with its code, for transformers and engines that build on it",
    "peft": "the adapter as a PEFT folder, and the connector beside it",
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("form", choices=list(FORMS), help="; ".join(f"{name}: {what}" for name, what in FORMS.items()))
    parser.add_argument("folder", type=Path, help="a new folder")
    parser.add_argument("--model", default="models:/lea@champion", help="MLflow model URI (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.serving.export import export
    from components.serving.export_peft import export_peft

    written = {"vllm": export, "peft": export_peft}[arguments.form](arguments.model, arguments.folder)
    size = sum(path.stat().st_size for path in arguments.folder.iterdir())
    result = {
        "model": written.name,
        "version": int(written.version or 0),
        "folder": str(arguments.folder),
        "bytes": size,
    }
    if arguments.json:
        print(json.dumps(result))
    else:
        written_to = f"{size:,} bytes in {arguments.folder}"
        print(f"{result['model']} version {result['version']}: {written_to}; how to load it: README.md there")
