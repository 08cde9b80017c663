"""The registered model as MLflow loads it, from code: rows of {image, prompt} -> answers.

The file runs from inside a version, beside a copy of `components`; the repository need not be there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class AnsweringModel(PythonModel):
    """`image` is bytes, base64 (with or without `data:...;base64,`), a file's path or null; `prompt` is text."""

    def load_context(self, context: Any) -> None:
        from components.evaluation.inference.assistant import load_assistant
        from components.tracking import bases

        parts = Path(context.artifacts["parts"])
        settings = json.loads((parts / "model.json").read_text(encoding="utf-8"))
        serving = json.loads(Path(context.artifacts["serving.json"]).read_text(encoding="utf-8"))
        place = bases.find(settings["base"], serving["copies"])
        with bases.referred(settings["base"], place) as folder:
            self.assistant = load_assistant(folder, parts, template=settings["template"], image=settings["image"])
        self.settings = {**serving["answering"], **(context.model_config or {})}  # max_new_tokens, batch, max_pixels

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        from components.evaluation.inference.answering import answer
        from components.evaluation.question import Question

        asked = []
        for number, row in enumerate(model_input.to_dict("records")):
            image = image_bytes(row.get("image"))
            seen = hashlib.sha256(image).hexdigest() if image else None
            asked.append(Question(str(number), "", "", row["prompt"], references=(), image=image, image_hash=seen))
        return answer(self.assistant, asked, **self.settings)


def image_bytes(value: Any) -> bytes | None:
    """The bytes of an image given in one of the accepted forms; None where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):  # pandas has NaN for a missing value
        return None
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    text = str(value)
    try:
        if not text.startswith("data:") and Path(text).is_file():
            return Path(text).read_bytes()
    except (OSError, ValueError):  # base64 text is too long to be a file's name
        pass
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except binascii.Error:
        raise ValueError(
            f"image must be bytes, base64 text, the path of a file, or null; {text[:80]!r} is no file and no base64"
        ) from None


set_model(AnsweringModel())
