"""A judge model behind any OpenAI-compatible endpoint.

OPENAI_BASE_URL (default https://api.openai.com/v1) and OPENAI_API_KEY name it. Too many requests, errors of the server
and broken connections are tried again with growing pauses, or the pause that the server asks for. The key is sent to
that server alone, and neither it nor any part of the address that may be secret is printed or stored.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any
from urllib.parse import quote, urlsplit

from components.errors import UserError
from components.evaluation.judge.http import Refused, post

OPENAI = "https://api.openai.com/v1"
TRIES = 6
LONGEST_PAUSE_S = 60.0
TIMEOUT_S = 180.0  # of one request, from its first byte to the reply's last
LONGEST_NAME = 200  # characters of a model's name that are kept
TOO_MANY = 429
HIDDEN = "***"


class JudgeAway(Exception):
    """The judge did not answer in any of its tries."""


@dataclass(frozen=True)
class Judge:
    """`key` is left out of the printed form, as dataclasses print themselves into tracebacks and logs."""

    model: str
    url: str
    key: str = field(repr=False)
    pause_s: float = 1.0  # before the second try; doubled each time
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def from_environment(cls, model: str, named_by: str = "--judge") -> Judge:
        """The judge that the environment names. UserError for an address or a key that cannot be one."""
        url, key = (os.environ.get(name, "").strip() for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY"))
        if not url and not key:
            raise UserError(f"{named_by} needs an endpoint: set OPENAI_BASE_URL, OPENAI_API_KEY or both")
        if url:
            _check_url(url)
        if not all(33 <= ord(character) <= 126 for character in key):
            raise UserError(
                "OPENAI_API_KEY holds a blank, a line break or another character that no key has; set it again"
            )
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
            wait = 0.0
            try:
                return self._reply(self._post(body))
            except Refused as refused:
                why = str(refused)
                if refused.code != TOO_MANY and refused.code < 500:
                    detail = self._masked(_detail(refused.detail))
                    raise UserError(f"{self.url} refuses the judge {self.model}: {why} {detail}") from None
                wait = _seconds(refused.retry_after)
            except (HTTPException, OSError, ValueError, RecursionError) as error:
                why = self._masked(_reason(error))
            if left:
                self.sleep(min(max(pause, wait), LONGEST_PAUSE_S))
                pause *= 2
        raise JudgeAway(f"{self.url} did not answer {TRIES} times ({why})")

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return json.loads(post(f"{self.url}/chat/completions", headers, json.dumps(body).encode(), TIMEOUT_S))

    def _reply(self, answer: Any) -> tuple[str, str]:
        try:
            reply = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            raise ValueError("an answer without choices") from None
        if not isinstance(reply, str | None):
            raise ValueError("an answer whose content is no text")
        name = answer.get("model")
        return self._masked(reply or ""), self._masked(name[:LONGEST_NAME] if isinstance(name, str) else self.model)

    def _masked(self, text: str) -> str:
        """A server may repeat the key that it was sent; what is printed or stored does not."""
        for secret in (self.key, quote(self.key, safe="")):
            text = text.replace(secret, HIDDEN) if secret else text
        return text


def _check_url(url: str) -> None:
    """UserError that shows nothing of an address beyond its scheme: the rest may hold a password."""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not close, a port that is not a number
        known = False
        parts = None
    if parts is not None and ("@" in parts.netloc or parts.query or parts.fragment):
        raise UserError(
            "OPENAI_BASE_URL must be an address without user name, password, query and fragment; "
            "the key belongs into OPENAI_API_KEY"
        )
    if not known or not all(33 <= ord(character) <= 126 for character in url):
        raise UserError("OPENAI_BASE_URL must begin with http:// or https:// and name a server, as http://host:8000/v1")


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "a reply that nests too deep"
    return " ".join(str(getattr(error, "reason", error)).split())[:200] or type(error).__name__


def _detail(body: bytes) -> str:
    """The server's own words, short and on one line."""
    text = body.decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        text = str(json.loads(text)["error"]["message"])
    return " ".join(text.split())[:200]


def _seconds(value: str | None) -> float:
    try:
        return max(0.0, float(value or 0))
    except ValueError:  # a date; our own pause serves
        return 0.0
