"""One question to a registered model: what `lea predict` does."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from components.errors import UserError
from components.tracking import registry, store

_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")


def predict(model: str, image: Path | None, prompt: str) -> str:
    """Ask `models:/NAME@ALIAS`, `models:/NAME/VERSION` or the folder of a logged model."""
    shown = _read_image(image) if image is not None else None
    place = _resolved(model)
    with store.answering(store.tracking_uri()), store.fluent(store.tracking_uri()):
        import mlflow

        loaded = mlflow.pyfunc.load_model(place)
    return loaded.predict([{"image": shown, "prompt": prompt}])[0]


def _resolved(model: str) -> str:
    """A URI that names a version by number, which is sure to be there."""
    if not model.startswith("models:"):
        if not (Path(model) / "MLmodel").is_file():
            raise UserError(
                f"--model {model}: give models:/NAME@ALIAS, models:/NAME/VERSION or a logged model's folder"
            )
        print(f"note: the code in {model} is run, as MLflow runs it: use folders that you trust", file=sys.stderr)
        return model
    parts = _URI.fullmatch(model)
    if parts is None:
        raise UserError(f"--model {model}: give models:/NAME@ALIAS or models:/NAME/VERSION")
    client = store.connect()
    with store.answering(store.tracking_uri()):
        found = registry.resolve(client, parts["name"], parts["alias"] or parts["version"])
    return f"models:/{found.name}/{found.version}"


def _read_image(path: Path) -> bytes:
    from PIL import Image

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"--image {path} is missing") from None
    except OSError as error:
        raise UserError(f"--image {path} cannot be read: {error.strerror}") from None
    try:
        with Image.open(io.BytesIO(data)) as opened:
            opened.verify()
    except Exception as error:  # Pillow's readers raise almost anything on damaged bytes
        raise UserError(f"--image {path} is not an image that can be read ({type(error).__name__})") from None
    return data
