"""`lea serve`: answer over HTTP as OpenAI's API does, with the model that an alias names."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import fields

SUMMARY = "answer over HTTP (OpenAI's chat completions) and on a page, following an alias"

HELP = {
    "max_body_bytes": "bytes of a request",
    "max_pixels": "pixels of an image",
    "max_characters": "characters of a request's texts",
    "max_new_tokens": "tokens that a request may ask for",
    "max_queue": "requests that wait or are answered; more get 429",
    "timeout_s": "seconds from a request's first byte to its answer's last",
    "rows": "answers of a model that grow together",
    "image_cache_bytes": "memory for what was read of images",
}


def options(parser: argparse.ArgumentParser) -> None:
    from components.serving.limits import Limits

    parser.description = (
        f"{SUMMARY}. Listens on this machine alone; another --host needs LEA_API_KEY in the environment, "
        "the key that callers send as: Authorization: Bearer KEY."
    )
    parser.add_argument(
        "--model",
        "--models",
        default="models:/lea@champion",
        help="MLflow URIs with commas between them (default: %(default)s)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port, 0 for any that is free (default: %(default)s)")
    for limit in fields(Limits):
        assert limit.default
        flag = "--" + limit.name.replace("_", "-")
        parser.add_argument(flag, type=type(limit.default), default=limit.default, help=_help(limit.name))


def _help(name: str) -> str:
    return f"{HELP[name]} (default: %(default)s)"


def run(arguments: argparse.Namespace) -> None:
    from components.errors import UserError
    from components.serving.limits import Limits
    from components.serving.loading import FORMS
    from components.serving.server import serve

    given = {limit.name: getattr(arguments, limit.name) for limit in fields(Limits)}
    for name, value in given.items():
        if not 0 < value < math.inf:
            raise UserError(f"--{name.replace('_', '-')} must be above 0, and finite; got {value}")
    models = [model.strip() for model in arguments.model.split(",") if model.strip()]
    if not models:
        raise UserError(f"--model {arguments.model!r} names no model; give {FORMS}, several with commas between them")
    serve(models, Limits(**given), arguments.host, arguments.port, os.environ.get("LEA_API_KEY", "").strip() or None)
