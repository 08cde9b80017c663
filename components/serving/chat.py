"""A request for a chat completion, as OpenAI's clients send it: every field is obeyed or refused, none is ignored."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from components.data.parts import joined
from components.data.schema import IMAGE_MARKER, Turn
from components.serving.limits import Limits
from components.serving.request_image import image_bytes


class Refused(Exception):
    """What the caller has wrong, in one line. `status` is the HTTP code, `parameter` the field."""

    def __init__(self, line: str, parameter: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(" ".join(line.split())[:400])
        self.parameter, self.status, self.code = parameter, status, code

    def body(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.parameter, "code": self.code}}


@dataclass(frozen=True)
class ChatRequest:
    model: str
    turns: list[Turn]
    system: str | None
    image: bytes | None
    max_new_tokens: int | None
    stream: bool
    include_usage: bool


def _only(*values: Any) -> Callable[[Any], bool]:
    return lambda value: any((value == each and type(value) is not bool) or value is each for each in values)


def _nothing(value: Any) -> bool:
    return value is None or value == [] or value == {}


# Field -> whether its value says what this server does anyway, and what that is. None is as good as absent.
FIXED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "temperature": (_only(0, None), "0: answers are greedy"),
    "top_p": (_only(1, None), "1: answers are greedy"),
    "n": (_only(1, None), "1"),
    "frequency_penalty": (_only(0, None), "0"),
    "presence_penalty": (_only(0, None), "0"),
    "logprobs": (_only(False, None), "false"),
    "top_logprobs": (_only(0, None), "0"),
    "store": (_only(False, None), "false"),
    "response_format": (lambda value: value is None or value == {"type": "text"}, '{"type": "text"}'),
    "modalities": (lambda value: value is None or value == ["text"], '["text"]'),
    "tool_choice": (_only("none", "auto", None), '"none"'),
    "service_tier": (_only("auto", "default", None), '"auto"'),
    "seed": (lambda value: value is None or _is_whole(value), "a whole number (greedy answers are the same for all)"),
    **dict.fromkeys(
        ("user", "safety_identifier", "prompt_cache_key"),  # who asks, under its old name and its new ones
        (lambda value: value is None or isinstance(value, str), "text"),
    ),
    "metadata": (lambda value: value is None or isinstance(value, dict), "an object"),
    "parallel_tool_calls": (lambda value: value is None or isinstance(value, bool), "true or false"),
    "stop": (_nothing, "absent"),
    "tools": (_nothing, "absent"),
    "logit_bias": (_nothing, "absent"),
}
# json holds the interpreter while it makes objects: 20 MB of empty lists would stop the server for seconds, and take
# 500 MB. Images are one string each, and texts have fewer characters than this.
MAX_MARKS = 100_000
MAX_MESSAGES = 1024  # each is tokenised by itself: more do not fit into what models can read
READ = ("model", "messages", "max_tokens", "max_completion_tokens", "stream", "stream_options")


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body."""
    if sum(map(body.count, (b"[", b"{", b","))) > MAX_MARKS:
        raise Refused(f"the body holds more than {MAX_MARKS:,} lists, objects and commas", status=413)
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:100]
        raise Refused(f"the body is not JSON that can be read: {reason}") from None
    if not isinstance(tree, dict):
        raise Refused("the body must be a JSON object")
    return tree


def parse_chat(tree: Mapping[str, Any], limits: Limits) -> ChatRequest:
    """What is asked, checked; Refused where it is not something that this server does."""
    for name, value in tree.items():
        if name in FIXED and not FIXED[name][0](value):
            raise Refused(f"{name} must be {FIXED[name][1]}; got {_shown(value)}", name)
        if name not in FIXED and name not in READ and value is not None:
            raise Refused(f"unknown field {_shown(name)}", name[:40])
    options = tree.get("stream_options")
    if options is not None and (
        not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}
    ):
        raise Refused("stream_options may hold include_usage and include_obfuscation", "stream_options")
    if (options or {}).get("include_obfuscation") not in (None, False):
        raise Refused("stream_options.include_obfuscation must be false", "stream_options.include_obfuscation")
    turns, system, image = _parse_messages(tree.get("messages"), limits)
    return ChatRequest(
        model=parse_model(tree),
        turns=turns,
        system=system,
        image=image,
        max_new_tokens=_max_new_tokens(tree, limits),
        stream=_flag(tree.get("stream"), "stream"),
        include_usage=_flag((options or {}).get("include_usage"), "stream_options.include_usage"),
    )


def parse_model(tree: Mapping[str, Any]) -> str:
    if not isinstance(tree.get("model"), str):
        raise Refused("model must be the name of a model; see /v1/models", "model")
    return tree["model"]


def _max_new_tokens(tree: Mapping[str, Any], limits: Limits) -> int | None:
    found = None
    for name in ("max_tokens", "max_completion_tokens"):
        value = tree.get(name)
        if value is None:
            continue
        if not _is_whole(value) or not 1 <= value <= limits.max_new_tokens:
            raise Refused(f"{name} must be 1 to {limits.max_new_tokens}, got {_shown(value)}", name)
        if found is not None and found != value:
            raise Refused("max_tokens and max_completion_tokens differ; give one of them", name)
        found = value
    return found


def _parse_messages(messages: Any, limits: Limits) -> tuple[list[Turn], str | None, bytes | None]:
    """Turns, system text, image. The image belongs to the first question, as the model was trained."""
    if not isinstance(messages, list) or not messages:
        raise Refused("messages must be a list of messages", "messages")
    if len(messages) > MAX_MESSAGES:
        raise Refused(f"there are {len(messages):,} messages; at most {MAX_MESSAGES:,} are read", "messages")
    turns: list[Turn] = []
    system: str | None = None
    images: list[bytes] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        _check_fields(message, where)
        role, text, found = message.get("role"), *_parse_content(message.get("content"), where)
        found = [image for image in dict.fromkeys(found) if image not in images]  # sent again, it is the same image
        if role in ("system", "developer") and not turns and not found:
            system = text if system is None else f"{system}\n\n{text}"
            continue
        expected = "assistant" if turns and turns[-1].role == "human" else "user"
        if role != expected:
            raise Refused(f"{where}.role must be {expected!r} here (system, user, assistant, user, ...)", where)
        if found and turns:
            raise Refused(f"{where}: an image belongs to the first user message", where)
        if not text.strip():
            raise Refused(f"{where}.content has no text", where)
        images += found
        turns.append(Turn("human" if role == "user" else "assistant", text))
    if not turns or turns[-1].role != "human":
        raise Refused("the last message must be the user's", "messages")
    if len(images) > 1:
        raise Refused(f"one image can be asked about at a time, got {len(images)}", "messages")
    _check_text([system or "", *(turn.text for turn in turns)], limits)
    return turns, system, images[0] if images else None


def _check_fields(message: Any, where: str) -> None:
    """An answer comes back as the client's library has it: with fields for calls and sounds, which are empty."""
    if not isinstance(message, dict):
        raise Refused(f"{where} must hold role and content", where)
    for name, value in message.items():
        if name not in ("role", "content", "name", "refusal") and not _nothing(value):
            raise Refused(f"{where} must hold role and content; {_shown(name)} can only be empty", where)


def _parse_content(content: Any, where: str) -> tuple[str, list[bytes]]:
    """Text and images of one message; content is text or a list of parts."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list) or not content or len(content) > 64:
        raise Refused(f"{where}.content must be text or a list of at most 64 parts", where)
    texts: list[str] = []
    images: list[bytes] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind == "image_url":
            images.append(parse_image(part.get("image_url"), where))
        else:
            raise Refused(f'{where}.content: a part must be {{"type": "text"}} or {{"type": "image_url"}}', where)
    return joined(texts), images


def parse_image(value: Any, where: str) -> bytes:
    """The bytes of {"url": "data:...", "detail"?}."""
    if not isinstance(value, dict) or not isinstance(value.get("url"), str) or set(value) - {"url", "detail"}:
        raise Refused(f'{where}: image_url must be {{"url": "data:image/...;base64,..."}}', where)
    if value.get("detail") not in (None, "auto", "low", "high"):
        raise Refused(f"{where}: detail must be auto, low or high (an image is always read at one size)", where)
    url = value["url"].lstrip()
    if url[:5].lower() != "data:":
        raise Refused(f"{where}: this server opens no URL and no path; send the image as a data: URL", where)
    try:
        image = image_bytes(url)
    except ValueError as error:
        raise Refused(f"{where}: {error}", where) from None
    assert image is not None
    if not image:
        raise Refused(f"{where}: the image is empty", where)
    return image


def _check_text(texts: list[str], limits: Limits) -> None:
    if sum(map(len, texts)) > limits.max_characters:
        raise Refused(f"the messages have more than {limits.max_characters} characters", "messages")
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Refused("a message holds half of a surrogate pair, which is no UTF-8 text", "messages") from None
        if IMAGE_MARKER in text:
            raise Refused(f"a message's text may not hold {IMAGE_MARKER}; send the image as a part", "messages")


def _flag(value: Any, name: str) -> bool:
    if value not in (None, True, False) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        raise Refused(f"{name} must be true or false, got {_shown(value)}", name)
    return bool(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    """A value of the caller's for a message: short, ASCII, one line."""
    try:
        return json.dumps(value)[:60]
    except (ValueError, RecursionError):
        return type(value).__name__
