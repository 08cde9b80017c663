"""Text without passwords and keys: whatever is printed, logged or stored and may quote an address goes through here.

Better too much than too little: what looks like a secret is replaced by ***, wherever it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from urllib.parse import quote, unquote

MASK = "***"
# Variables that hold a secret, by their names, and those that hold an address which may.
_SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY)$", re.IGNORECASE)
_ADDRESS_NAME = re.compile(r"_(URI|URL|ENDPOINT|ADDRESS|STORAGE|PROXY)$", re.IGNORECASE)
_SHORTEST = 6  # characters; to replace shorter ones would shred every text

# user:password@ of an address: up to the last @ before a slash; beyond slashes where no port can be meant
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*://)(?:[^\s/?#]*@|[^\s/:@]+:(?!\d+(?:[/\s]|$))\S*@)")
_QUERY = re.compile(
    r"(?P<name>[?&;][\w.\-]*(?:password|passwd|pwd|secret|token|key|sig|signature|credential|auth)[\w.\-]*=)[^&#;\s'\"]+",
    re.IGNORECASE,
)
_HEADER = re.compile(r"(?P<name>\b(?:Bearer|Basic)\s+)[A-Za-z0-9+/=._~\-]{4,}")


def masked(text: str) -> str:
    """The text without user and password of addresses, secrets of their queries, and values of secret variables."""
    for secret in sorted(_secrets(), key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = _USER.sub(rf"\g<scheme>{MASK}@", text)
    text = _QUERY.sub(rf"\g<name>{MASK}", text)
    return _HEADER.sub(rf"\g<name>{MASK}", text)


def _secrets() -> Iterator[str]:
    """What the environment holds, in each form in which a message may quote it; of several lines each by itself."""
    for name, value in os.environ.items():
        found = []
        if _SECRET_NAME.search(name):
            found = [value, *value.splitlines()]
        elif _ADDRESS_NAME.search(name) and "://" in value and "@" in value:
            user_and_password = value.partition("://")[2].rpartition("@")[0]
            found = [user_and_password.partition(":")[2]]
        for each in found:
            yield from {form for form in _forms(each.strip()) if len(form) >= _SHORTEST}


def _forms(secret: str) -> tuple[str, ...]:
    return secret, unquote(secret), quote(secret, safe=""), repr(secret)[1:-1]
