"""One question to a registered model: what `lea predict` does."""

from __future__ import annotations

import hashlib
from pathlib import Path

from components.errors import UserError
from components.serving.limits import Limits, context_length
from components.serving.loading import Loaded, find_version, load_folder, load_version


def predict(model: str, image: Path | None, prompt: str) -> str:
    """Ask `models:/NAME@ALIAS`, `models:/NAME/VERSION` or the folder of a logged model, whose code is not run."""
    _check_prompt(prompt)
    shown = _read_image(image) if image is not None else None
    loaded = load_version(find_version(model)) if model.startswith("models:") else load_folder(Path(model))
    return _answer(loaded, shown, prompt)


def _answer(loaded: Loaded, image: bytes | None, prompt: str) -> str:
    from components.evaluation.inference.answering import answer
    from components.evaluation.question import Question

    assistant, settings = loaded.assistant, loaded.answering
    length = len(assistant.encoder.prompt(prompt, image is not None))
    room = context_length(assistant) - settings["max_new_tokens"]
    if length > room:
        raise UserError(f"--prompt has {length} tokens with all that is asked with it; the model has room for {room}")
    seen = hashlib.sha256(image).hexdigest() if image is not None else None
    return answer(assistant, [Question("0", "", "", prompt, (), image=image, image_hash=seen)], **settings)[0]


def _check_prompt(prompt: str) -> None:
    if not prompt.strip():
        raise UserError("--prompt is empty; give the question")
    if len(prompt) > Limits.max_characters:
        raise UserError(f"--prompt has {len(prompt):,} characters; at most {Limits.max_characters:,} are read")
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise UserError("--prompt is not UTF-8 text") from None


def _read_image(path: Path) -> bytes:
    """The file's bytes, decoded once, so that a bad image is reported before the model is loaded."""
    from components.serving.request_image import decode_for_caller, read_file

    try:
        data = read_file(path)
    except FileNotFoundError:
        raise UserError(f"--image {path} is missing") from None
    except OSError as error:
        raise UserError(f"--image {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--image: {error}") from None
    try:
        decode_for_caller(data, Limits().max_pixels)
    except ValueError as error:
        raise UserError(f"--image {path} is not an image that can be used: {error}") from None
    return data
