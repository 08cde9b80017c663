"""Answers in the form of OpenAI's chat completions, whole or as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import takewhile
from typing import Any
from uuid import uuid4


class TextStream:
    """Tokens to pieces of text: no half characters, nothing before the first word, no blanks behind the last."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._tokens, self._sent = tokenizer, [], ""

    def push(self, tokens: Sequence[int]) -> str:
        """What can be sent now."""
        self._tokens += tokens
        text = self._text()
        if text.endswith("\ufffd"):  # the rest of a letter may come
            return ""
        return self._advance(text.rstrip())

    def finish(self) -> str:
        """What is left; where the decoder changed text that was sent, all that stands behind the change."""
        text = self._text().rstrip()
        if text.startswith(self._sent):
            return self._advance(text)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(text, self._sent, strict=False)))
        return text[same:]

    @property
    def whole(self) -> str:
        return self._text().strip()

    def _text(self) -> str:
        return self._tokenizer.decode(self._tokens, skip_special_tokens=True).lstrip()

    def _advance(self, text: str) -> str:
        if not text.startswith(self._sent):  # a decoder that changes its earlier text: wait for the end
            return ""
        fresh, self._sent = text[len(self._sent) :], text
        return fresh


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class Completion:
    """One answer's identity, in all that is sent of it. `version` says which model answers."""

    def __init__(self, model: str, version: str) -> None:
        self.version = version
        self._head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": model}
        self._head["system_fingerprint"] = version

    def whole(self, text: str, finish: str, used: dict[str, int]) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": used}

    def chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return event({**self._head, "object": "chat.completion.chunk", "choices": [choice]})

    def usage_chunk(self, used: dict[str, int]) -> bytes:
        return event({**self._head, "object": "chat.completion.chunk", "choices": [], "usage": used})


def event(data: Any) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
