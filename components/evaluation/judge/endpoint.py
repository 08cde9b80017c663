"""A judge model behind any OpenAI-compatible endpoint.

OPENAI_BASE_URL (default https://api.openai.com/v1) and OPENAI_API_KEY name it. Too many requests, errors of the server
and broken connections are tried again with growing pauses, or the pause that the server asks for.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any

from components.errors import UserError

OPENAI = "https://api.openai.com/v1"
TRIES = 6
LONGEST_PAUSE_S = 60.0
TIMEOUT_S = 180.0
TOO_MANY = 429


class JudgeAway(Exception):
    """The judge did not answer, however often it was asked."""


@dataclass(frozen=True)
class Judge:
    model: str
    url: str
    key: str
    pause_s: float = 1.0  # before the second try; doubled each time
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def from_environment(cls, model: str, named_by: str = "--judge") -> Judge:
        url, key = (os.environ.get(name, "").strip() for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"))
        if not url and not key:
            raise UserError(f"{named_by} needs an endpoint: set OPENAI_BASE_URL, OPENAI_API_KEY or both")
        if url and not url.startswith(("http://", "https://")):
            raise UserError(f"OPENAI_BASE_URL must begin with http:// or https://, got {url!r}")
        return cls(model, url.rstrip("/") or OPENAI, key)

    def ask(self, message: str, *, system: str, temperature: float, max_tokens: int) -> tuple[str, str]:
        """(reply, name of the model that replied). JudgeAway after TRIES; UserError for what trying will not mend."""
        turns = [{"role": "system", "content": system}] if system else []
        body = {
            "model": self.model,
            "messages": [*turns, {"role": "user", "content": message}],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        pause, why = self.pause_s, ""
        for left in reversed(range(TRIES)):
            asked_for = 0.0
            try:
                return self._reply(self._post(body))
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}"
                if error.code != TOO_MANY and error.code < 500:
                    raise UserError(f"{self.url} refuses the judge {self.model}: {why} {_detail(error)}") from None
                asked_for = _seconds(error.headers.get("Retry-After"))
            except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
                why = str(getattr(error, "reason", error)) or type(error).__name__
            if left:
                self.sleep(min(max(pause, asked_for), LONGEST_PAUSE_S))
                pause *= 2
        raise JudgeAway(f"{self.url} did not answer {TRIES} times ({why})")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/chat/completions", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            return json.loads(response.read())

    def _reply(self, answer: Any) -> tuple[str, str]:
        try:
            reply = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise ValueError("an answer without choices") from None
        if not isinstance(reply, str | None):
            raise ValueError("an answer whose content is no text")
        return reply or "", str(answer.get("model") or self.model)


def _detail(error: urllib.error.HTTPError) -> str:
    """The server's own words, short and on one line."""
    text = error.read(2000).decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:200]


def _seconds(value: str | None) -> float:
    try:
        return max(0.0, float(value or 0))
    except ValueError:  # a date; our own pause serves
        return 0.0
