"""The registered model as MLflow loads it, from code: rows of {image, prompt} -> answers.

The file runs from inside a version, beside a copy of `components`; the repository need not be there. What a caller has
wrong is a `BadRequest`, which `mlflow models serve` answers with 400.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel

# The values that greedy decoding has.
GREEDY = {
    "temperature": 0,
    "top_p": 1,
    "top_k": 1,
    "do_sample": False,
    "num_beams": 1,
    "n": 1,
    "repetition_penalty": 1,
}
LENGTHS = ("max_tokens", "max_completion_tokens", "max_new_tokens")  # names of one parameter
MAX_PROMPT_CHARACTERS = 32_768  # before a tokenizer has to read them


class BadRequest(MlflowException):
    """One line to the caller. MLflow's server would set a message with all data of the request in front of it."""

    def __init__(self, line: str) -> None:
        self._line = line
        super().__init__(line, error_code=INVALID_PARAMETER_VALUE)

    @property
    def message(self) -> str:
        return self._line

    @message.setter
    def message(self, value: str) -> None:
        """Stays what it is."""


class AnsweringModel(PythonModel):
    """`image` is base64, a `data:` URL, bytes (in Python) or null for text alone; `prompt` is text."""

    def load_context(self, context: Any) -> None:
        from components.evaluation.inference.assistant import load_assistant
        from components.tracking import bases
        from components.tracking.signature import MODEL_CONFIG

        parts = Path(context.artifacts["parts"])
        settings = json.loads((parts / "model.json").read_text(encoding="utf-8"))
        serving = json.loads(Path(context.artifacts["serving.json"]).read_text(encoding="utf-8"))
        place = bases.find(settings["base"], serving["copies"])
        with bases.referred(settings["base"], place) as folder:
            self.assistant = load_assistant(folder, parts, template=settings["template"], image=settings["image"])
        self.settings = serving["answering"]  # max_new_tokens, batch, max_pixels
        self.limits = {**MODEL_CONFIG, **(context.model_config or {})}

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> list[str]:
        from components.evaluation.inference.answering import answer
        from components.images.decoding import ImageError

        _check_columns(model_input)
        asked = self._questions(model_input.to_dict("records"))
        settings = {**self.settings, "max_new_tokens": self._max_new_tokens(params or {})}
        self._check_lengths(asked, settings["max_new_tokens"])
        try:
            return answer(self.assistant, asked, **settings)
        except ImageError:
            raise BadRequest(self._bad_image(asked)) from None

    def _questions(self, rows: list[dict[Any, Any]]) -> list[Any]:
        from components.evaluation.question import Question
        from components.serving.request_image import check_cost, check_shape, image_bytes

        if not 0 < len(rows) <= self.limits["max_rows"]:
            raise BadRequest(f"a request holds 1 to {self.limits['max_rows']} rows, this one {len(rows)}")
        asked = []
        for number, row in enumerate(rows):
            prompt = row.get("prompt")
            if not isinstance(prompt, str) or not prompt.strip():
                raise BadRequest(f"row {number}: prompt must be text; each row is {{image, prompt}}")
            if len(prompt) > MAX_PROMPT_CHARACTERS or not _is_utf8(prompt):
                raise BadRequest(
                    f"row {number}: prompt must be UTF-8 text of at most {MAX_PROMPT_CHARACTERS} characters"
                )
            try:
                image = image_bytes(row.get("image"), allow_paths=self.limits["allow_paths"])
                check_shape(image or b"", self.settings["max_pixels"])
            except (ValueError, OSError) as error:
                raise BadRequest(f"row {number}: {error}") from None
            seen = hashlib.sha256(image).hexdigest() if image is not None else None
            asked.append(Question(str(number), "", "", prompt, references=(), image=image, image_hash=seen))
        try:
            images = {question.image_hash: question.image for question in asked if question.image is not None}
            check_cost(
                list(images.values()),
                max_bytes=self.limits["max_request_bytes"],
                max_pixels=self.limits["max_request_pixels"],
            )
        except ValueError as error:
            raise BadRequest(str(error)) from None
        return asked

    def _max_new_tokens(self, params: dict[str, Any]) -> int:
        """How many tokens an answer may have; parameters that ask for other than greedy decoding are refused."""
        for name, value in GREEDY.items():
            if params.get(name) not in (None, value):
                raise BadRequest(f"{name} must be {value}: answers are greedy; got {params[name]}")
        stop = params.get("stop")
        if stop is not None and len(stop):  # MLflow makes an array of the list
            raise BadRequest("stop must be absent: an answer ends where the model ends it")
        usual = self.settings["max_new_tokens"]
        limit = max(self.limits["max_new_tokens_limit"], usual)
        wanted = {name: params[name] for name in LENGTHS if params.get(name) is not None}
        for name, value in wanted.items():
            if not 1 <= value <= limit:
                raise BadRequest(f"{name} must be 1 to {limit}, got {value}")
        # MLflow gives max_new_tokens its usual value where none is sent.
        given = {value for name, value in wanted.items() if name != "max_new_tokens" or value != usual}
        if len(given) > 1:
            raise BadRequest(f"{' and '.join(wanted)} differ; give one of them")
        return int(next(iter(given), usual))

    def _check_lengths(self, asked: list[Any], max_new_tokens: int) -> None:
        from components.serving.limits import context_length

        room = context_length(self.assistant) - max_new_tokens
        for question in asked:
            length = len(self.assistant.encoder.prompt(question.text, question.image is not None))
            if length > room:
                raise BadRequest(
                    f"row {question.id}: the prompt has {length} tokens; with max_new_tokens {max_new_tokens} "
                    f"the model has room for {max(room, 0)}"
                )

    def _bad_image(self, asked: list[Any]) -> str:
        """Which row's image cannot be decoded, and why."""
        from components.serving.request_image import decode_for_caller

        for question in asked:
            try:
                if question.image is not None:
                    decode_for_caller(question.image, self.settings["max_pixels"])
            except ValueError as error:
                return f"row {question.id}: {error}"
        return "an image cannot be decoded"


def _check_columns(rows: pd.DataFrame) -> None:
    """MLflow drops columns that the signature does not name: without this a misspelt `image` would go unseen."""
    missing = [name for name in ("image", "prompt") if name not in rows.columns]
    if missing:
        raise BadRequest(
            f"no column {' and no column '.join(missing)} was sent; each row is {{image, prompt}}, with image null for "
            "a question without one"
        )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


set_model(AnsweringModel())
