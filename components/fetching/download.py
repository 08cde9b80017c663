"""One file over HTTP: resumed where it was cut, never larger than announced, and compared with its digest.

What has arrived lies beside the target as `.NAME.partial`, with what the server said of it; a later call goes on there,
a killed process's too. Where no digest is known, `.NAME.fetched.partial` says what was moved to the target. The server
is not trusted: it may cut, stall, lie about sizes, send other bytes, or redirect elsewhere. A redirect to another
origin is followed only where the digest is known, never from https to http, and the token goes to the first origin
alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from components.digests import digest, file_digest
from components.errors import UserError
from components.fetching.replies import UNREACHABLE, Cut, Reply, ask
from components.files import write_json, write_text

Progress = Callable[[int], object]  # bytes that have arrived of this file


@dataclass(frozen=True)
class Wanted:
    """A file and what is known of it before it is fetched."""

    path: Path
    url: str
    num_bytes: int | None = None
    sha256: str | None = None
    blob: str | None = None  # git's name for its bytes, which the hub gives for small files
    token: str | None = field(default=None, repr=False)

    @property
    def digest_known(self) -> bool:
        return bool(self.sha256 or self.blob)


@dataclass(frozen=True)
class Limits:
    deadline: float  # by time.monotonic()
    silent_s: float = 60.0  # without a byte
    slowest: float = 1024.0  # bytes per second, over `silent_s`
    attempts: int = 6  # in a row that bring nothing new
    pause_s: float = 1.0  # before the second attempt; doubles


def download(wanted: Wanted, limits: Limits, progress: Progress = lambda done: None) -> str:
    """Fetch the file and return its SHA-256. UserError where it cannot be had, or is not what it should be."""
    aside = wanted.path.with_name(f".{wanted.path.name}.partial")
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    failures, most = 0, _size(aside)
    while True:
        try:
            _go_on(wanted, aside, limits, progress)
            break
        except Cut as cut:
            failures = 0 if _size(aside) > most else failures + 1
            most = max(most, _size(aside))  # what was thrown away and comes again is no progress
            pause = max(cut.wait_s, limits.pause_s * 2 ** min(failures, 6))
            if failures >= limits.attempts or time.monotonic() + pause >= limits.deadline:
                late = "; the time given is over (--hours)" if failures < limits.attempts else ""
                kept = f"{_size(aside)} bytes are kept; run the same command again to go on"
                if str(cut) == UNREACHABLE and not most:
                    kept = "check the network, or name a mirror: LEA_MIRROR=https://.."
                raise UserError(f"{wanted.url}: {cut}{late}; {kept}") from None
            if failures == 1 and not most:  # said once: otherwise a minute passes without a line
                print(f"  {wanted.path.name}: {cut}; trying again, up to {limits.attempts} times", file=sys.stderr)
            time.sleep(pause)
    return _accept(wanted, aside)


def size_there(wanted: Wanted, limits: Limits) -> int | None:
    """Bytes that the server says the file has, if it says so; none is read. UserError or Cut where it does not."""
    headers = {"Accept-Encoding": "identity"}
    with ask(wanted.url, headers, wanted.token, limits.silent_s, other_origins=wanted.digest_known) as reply:
        return reply.total


def intent(path: Path) -> Path:
    """A file beside the target of a download: the SHA-256 of what is moved there, until that is noted elsewhere."""
    return path.with_name(f".{path.name}.fetched.partial")


def _go_on(wanted: Wanted, aside: Path, limits: Limits, progress: Progress) -> None:
    """Append to what has arrived until it is whole; Cut where the connection ends before."""
    said = _read_state(aside)
    start = _size(aside) if said and (said["validator"] or wanted.digest_known) else 0
    if start and start == (wanted.num_bytes or said["total"]):
        return  # killed between the last byte and its move
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    if start and said["validator"] and not (wanted.digest_known and said.get("url") != digest(wanted.url)):
        headers["If-Range"] = said["validator"]  # of the same server: a mirror has marks of its own
    with ask(wanted.url, headers, wanted.token, limits.silent_s, other_origins=wanted.digest_known) as reply:
        if reply.status == 416 or (reply.status == 206 and (reply.start, reply.total) != (start, said.get("total"))):
            _forget(aside)  # the file changed, or is smaller than what we have
            raise Cut("the server has another file now")
        total = wanted.num_bytes or reply.total
        if total is None:
            raise UserError(f"{wanted.url}: neither the server nor the table says how large it is; it is not fetched")
        if reply.total is not None and reply.total != total:
            raise UserError(f"{wanted.url}: the server has {reply.total} bytes, {total} are published")
        if reply.status == 200:
            _forget(aside)
            start = 0
        write_json(_state(aside), {"url": digest(wanted.url), "validator": reply.validator, "total": reply.total})
        _append(reply, aside, start, total, wanted.url, limits, progress)


def _append(reply: Reply, aside: Path, start: int, total: int, url: str, limits: Limits, progress: Progress) -> None:
    done = window = start
    since = time.monotonic()
    with aside.open("ab") as stream:
        while piece := reply.read():
            done += len(piece)
            if done > total:
                stream.close()
                _forget(aside)
                raise UserError(f"{url}: the server sends more than the {total} bytes that it has; nothing is kept")
            stream.write(piece)
            progress(done)
            now = time.monotonic()
            if now > limits.deadline:
                raise Cut("not whole yet")
            if now - since > limits.silent_s:
                if done - window < limits.slowest * limits.silent_s:
                    raise Cut(f"slower than {limits.slowest:g} bytes a second")
                since, window = now, done
    if done < total:
        raise Cut(f"the connection ended at {done} of {total} bytes")


def _accept(wanted: Wanted, aside: Path) -> str:
    """Compare with the digests that are known, then move into place."""
    found = file_digest(aside)
    if wanted.sha256 and found != wanted.sha256:
        _refuse(wanted, aside, f"SHA-256 is {found}, {wanted.sha256}")
    if wanted.blob and (blob := blob_id(aside)) != wanted.blob:
        _refuse(wanted, aside, f"git blob is {blob}, {wanted.blob}")
    with aside.open("rb") as stream:
        os.fsync(stream.fileno())
    if not wanted.digest_known:
        write_text(intent(wanted.path), found)
    aside.replace(wanted.path)
    _forget(aside)
    return found


def _refuse(wanted: Wanted, aside: Path, what: str) -> NoReturn:
    _forget(aside)
    raise UserError(f"{wanted.url}: its {what} is expected; nothing is kept")


def blob_id(path: Path) -> str:
    """Git's name for a file's bytes: SHA-1 of "blob", the size, a zero byte, the bytes."""
    hashed = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            hashed.update(piece)
    return hashed.hexdigest()


def _state(aside: Path) -> Path:
    return aside.with_name(f"{aside.name.removesuffix('.partial')}.state.partial")


def _read_state(aside: Path) -> dict[str, Any]:
    """What the server said of the part that is here; empty where nothing, or nothing usable, is known."""
    with contextlib.suppress(OSError, ValueError):
        said = json.loads(_state(aside).read_text("utf-8"))
        if isinstance(said, dict) and {"validator", "total"} <= said.keys():
            return said
    return {}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _forget(aside: Path) -> None:
    aside.unlink(missing_ok=True)
    _state(aside).unlink(missing_ok=True)
