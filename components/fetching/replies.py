"""A request whose every step ends in time, and its redirects, followed by rule."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3
from requests.auth import HTTPBasicAuth
from requests.utils import get_auth_from_url

from components.errors import UserError

MOST_REDIRECTS = 5
LONGEST_WAIT_S = 120.0  # that a server may ask for
PIECE = 1 << 18  # bytes
UNREACHABLE = "cannot be reached"
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class Cut(Exception):
    """The connection failed in a way that may pass; `wait_s`: the server asks to be left alone for so long."""

    def __init__(self, what: str, wait_s: float = 0.0) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class Reply:
    """What a server answers: status (200, 206 or 416), sizes, and the bytes."""

    def __init__(self, response: requests.Response) -> None:
        self._response, headers = response, response.headers
        self.status = response.status_code
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
        length = headers.get("Content-Length", "")
        self.start = int(span[1]) if span and self.status == 206 else 0
        self.total: int | None = None
        if self.status == 206:
            self.total = int(span[2]) if span else None
        elif length.isascii() and length.isdigit():
            self.total = int(length)
        tag = headers.get("ETag", "")
        self.validator = tag if tag.startswith('"') else headers.get("Last-Modified")

    def read(self) -> bytes:
        """The next bytes, as soon as there are some; none at the end."""
        try:
            return self._response.raw.read1(PIECE, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise Cut(_in_words(error)) from None


@contextmanager
def ask(
    url: str, headers: Mapping[str, str], token: str | None, silent_s: float, *, other_origins: bool
) -> Iterator[Reply]:
    """GET the URL and follow its redirects. UserError for what will not pass, Cut for what may.

    other_origins: whether a redirect may lead to another host. The token is sent to the first origin only.
    """
    first = here = urlsplit(url)
    with requests.Session() as session:
        session.auth = _of_the_url
        for _ in range(MOST_REDIRECTS + 1):
            own = {"Authorization": f"Bearer {token}"} if token and _origin(here) == _origin(first) else {}
            response = _get(session, here.geturl(), {**headers, **own}, silent_s)
            if response.status_code not in _REDIRECTS:
                _check(response, url)
                yield Reply(response)
                return
            there = urlsplit(urljoin(here.geturl(), response.headers.get("Location", "")))
            _check_redirect(url, first, here, there, other_origins)
            here = there
    raise UserError(f"{url}: more than {MOST_REDIRECTS} redirects")


def _of_the_url(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """User and password of the address alone: requests would add those of ~/.netrc, at times for any host."""
    user, password = get_auth_from_url(request.url or "")
    return HTTPBasicAuth(user, password)(request) if user else request


def _get(session: requests.Session, url: str, headers: Mapping[str, str], silent_s: float) -> requests.Response:
    """The head of the reply, within twice `silent_s`: a server may also send its head a byte a minute."""
    found: list[Any] = []

    def get() -> None:
        try:
            options = {"stream": True, "allow_redirects": False, "timeout": silent_s}
            found.append(session.get(url, headers=dict(headers), **options))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            found.append(error)

    thread = threading.Thread(target=get, daemon=True)
    thread.start()
    thread.join(2 * silent_s)
    if not found:
        raise Cut(f"no reply within {2 * silent_s:g} s")
    if isinstance(found[0], requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        raise UserError(f"{url}: {found[0]}")
    if isinstance(found[0], Exception):
        raise Cut(_in_words(found[0]))
    return found[0]


def _check(response: requests.Response, url: str) -> None:
    status = response.status_code
    if status in (200, 206, 416):
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise UserError(f"{url}: comes encoded as {encoding}, which was not asked for")
        return
    if status in _PASSING:
        wait = response.headers.get("Retry-After", "")
        raise Cut(f"the server answers {status}", min(float(wait), LONGEST_WAIT_S) if wait.isdigit() else 0.0)
    remedy = "name a mirror (LEA_MIRROR, HF_ENDPOINT)"
    if status in (401, 403):
        remedy = "accept its licence on its page and set HF_TOKEN, or " + remedy
    raise UserError(f"{url}: the server answers {status} {response.reason}; {remedy}")


def _check_redirect(url: str, first: SplitResult, here: SplitResult, there: SplitResult, other_origins: bool) -> None:
    shown = f"{there.scheme}://{there.netloc.rpartition('@')[2]}"
    if there.scheme not in ("http", "https") or (here.scheme == "https" and there.scheme == "http"):
        raise UserError(f"{url}: redirects to {shown}, which is not followed from {here.scheme}")
    if _origin(there) != _origin(first) and not other_origins and not _upgrade(first, there):
        raise UserError(f"{url}: redirects to another host ({shown}), not followed: no digest of the file is known")


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    return url.scheme, url.hostname, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _upgrade(first: SplitResult, there: SplitResult) -> bool:
    """From http to https on the same host."""
    return first.hostname == there.hostname and (first.scheme, there.scheme) == ("http", "https")


def _in_words(error: BaseException) -> str:
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return "the server is silent"
    if isinstance(error, requests.exceptions.SSLError):
        return f"its certificate is refused ({str(error)[-120:]})"
    if isinstance(error, requests.exceptions.ConnectionError) and "Failed to" in str(error):
        return UNREACHABLE
    return "the connection was cut"
