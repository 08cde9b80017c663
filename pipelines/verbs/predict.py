"""`lea predict`: ask a registered model about an image."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

SUMMARY = "ask a registered model about an image"


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="models:/lea@champion", help="MLflow model URI (default: %(default)s)")
    parser.add_argument("--image", type=Path, help="image file; without one the question is asked as text")
    parser.add_argument("--prompt", required=True, help="the question")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> None:
    from components.serving.predict import predict

    text = predict(arguments.model, arguments.image, arguments.prompt)
    print(json.dumps({"answer": text}) if arguments.json else text)
