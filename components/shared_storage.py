"""The place that all nodes reach: LEA_STORAGE, a URL of a store that fsspec knows (s3://, gs://, file:///nfs/..).

Objects are whole or absent. Each store has errors of its own; here they are a UserError of one line.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from components.errors import UserError

T = TypeVar("T")
VARIABLE = "LEA_STORAGE"
# Where a store is, for the workers; who may use it (keys, tokens, profiles) is never sent.
ADDRESSES = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", VARIABLE)
IN_PLACE = {"file", "local"}  # a reader would see these files while they grow
# a file there cannot be replaced in one step, or fsspec's file system for it cannot be opened as the others are
NO_REPLACING = {"hdfs", "arrow_hdfs", "webhdfs", "smb", "ftp", "sftp", "ssh"}
PAUSES_S = (1, 4, 15)  # before an access that failed is tried again
S3 = ("s3", "s3a")
# A request to S3, and each part of a large file, is tried so often; a store that takes it and says nothing is given up
# after three times 30 s.
S3_CONFIG = {"connect_timeout": 10, "read_timeout": 30, "retries": {"total_max_attempts": 3, "mode": "standard"}}
SILENT = "ReadTimeoutError"  # the client has waited long enough, more than once
NO_CREDENTIALS = ("NoCredentialsError", "CredentialRetrievalError", "DefaultCredentialsError", "RefreshError")
LAST = (FileNotFoundError, PermissionError, ImportError, ValueError)  # no second try mends these


class StorageError(UserError):
    """The storage does not give or take what it should."""


class StorageAway(StorageError):
    """It does not answer, or fails in a way that may pass: the same access may work in a while."""


@dataclass(frozen=True)
class SharedStorage:
    """Objects by name below `url`. patient: an access that fails is tried again a few times, for 20 s and more."""

    url: str
    patient: bool = True

    def at_once(self) -> SharedStorage:
        """The same, for one who comes back soon anyway: an access that fails is not tried again."""
        return replace(self, patient=False)

    def read(self, name: str) -> bytes | None:
        """The content of an object, or None where there is none."""
        try:
            return self._tried(lambda: self._store.cat_file(self._path(name)), name, "read")
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        self._put(name, lambda path: self._store.pipe_file(path, content))

    def put(self, name: str, file: Path, sent: Callable[[int], object] = lambda num_bytes: None) -> None:
        """Copy a local file there. sent: called with the bytes of it that are there, where the store says so."""
        from fsspec.callbacks import Callback

        def put(path: str) -> None:
            sending = Callback(hooks={"sent": lambda size, value, **_: sent(value)})
            self._store.put_file(str(file), path, callback=sending)

        self._put(name, put)

    def get(self, name: str, file: Path) -> None:
        """Copy an object into a local file. FileNotFoundError where there is none."""
        self._tried(lambda: self._store.get_file(self._path(name), str(file)), name, "read")

    def exists(self, name: str) -> bool:
        return self._tried(lambda: self._store.exists(self._path(name)), name, "read")

    def size(self, name: str) -> int:
        """Bytes of all below a name; 0 where there is nothing."""
        try:
            return int(self._tried(lambda: self._store.du(self._path(name)), name, "read"))
        except FileNotFoundError:
            return 0

    def remove(self, name: str) -> None:
        """Remove an object, or all below a name; what is not there is no error."""
        try:
            self._tried(lambda: self._store.rm(self._path(name), recursive=True), name, "written")
        except FileNotFoundError:
            return

    def _put(self, name: str, put: Callable[[str], object]) -> None:
        target = self._path(name)

        def whole() -> None:
            if not self._grows:
                put(target)
                return
            aside = f"{target}.{uuid.uuid4().hex[:8]}.partial"
            self._store.makedirs(target.rpartition("/")[0], exist_ok=True)
            put(aside)
            self._store.mv(aside, target)

        try:
            self._tried(whole, name, "written")
        except FileNotFoundError as error:
            raise StorageError(f"{self.url} does not exist: {_first_line(error)}") from None

    def _tried(self, act: Callable[[], T], name: str, verb: str) -> T:
        pauses = PAUSES_S if self.patient else ()
        for number, pause in enumerate((*pauses, None)):
            try:
                return act()
            except (FileNotFoundError, UserError):
                raise
            except Exception as error:  # each store has errors of its own
                line = self._line(error, name, verb)
                if isinstance(error, LAST) or _lacks_credentials(error):
                    raise StorageError(line) from None
                if pause is None or type(error).__name__ == SILENT:
                    raise StorageAway(line) from None
                if not number:
                    print(f"storage: {line}; trying again", file=sys.stderr, flush=True)
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _line(self, error: Exception, name: str, verb: str) -> str:
        if _lacks_credentials(error):
            return f"no credentials for {self.url}"
        if isinstance(error, PermissionError):
            return f"{self.url} does not let {name} be {verb} with these credentials ({_first_line(error)})"
        return f"{self.url}/{name} cannot be {verb}: {type(error).__name__}: {_first_line(error)}"

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        import fsspec

        is_s3 = urlsplit(self.url).scheme in S3
        try:
            store, root = fsspec.url_to_fs(
                self.url, use_listings_cache=False, **({"config_kwargs": _s3_config()} if is_s3 else {})
            )
        except (ImportError, ValueError) as error:
            raise StorageError(f"{VARIABLE}={self.url} cannot be used: {_first_line(error)}") from None
        if is_s3:
            _give_up_in_time(store)
        return store, root

    @property
    def _store(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1].rstrip("/")

    @cached_property
    def _grows(self) -> bool:
        protocol = self._store.protocol
        return bool(IN_PLACE & set([protocol] if isinstance(protocol, str) else protocol))


def shared_storage() -> SharedStorage | None:
    """The storage that LEA_STORAGE names, if it names one. UserError where that is no URL, or holds a password."""
    url = os.environ.get(VARIABLE, "").rstrip("/")
    if not url:
        return None
    parts = urlsplit(url)
    if not parts.scheme or "://" not in url or not parts.netloc + parts.path.strip("/"):
        raise UserError(f"{VARIABLE} must be a URL as s3://bucket/lea or file:///nfs/lea, got {url!r}")
    if parts.password:
        raise UserError(
            f"{VARIABLE} must hold no password: it goes to all nodes; each node uses credentials of its own"
        )
    for link in url.split("::"):
        kind, _, place = link.partition("://")
        if kind in NO_REPLACING:
            raise UserError(
                f"{VARIABLE} must be a store that replaces an object in one step, which {kind}:// does not; "
                "use s3://, gs://, abfs:// or file://"
            )
        if kind in IN_PLACE and not place.startswith("/"):
            raise UserError(
                f"{VARIABLE} must name a folder by its whole path, after three slashes ({kind}:///{place}), got {url!r}"
            )
    return SharedStorage(url)


def _s3_config() -> dict[str, Any]:
    """Of the client: ours, and before it what fsspec's own configuration says (FSSPEC_S3, ~/.config/fsspec)."""
    from fsspec.config import conf

    own = {name: value for kind in S3 for name, value in (conf.get(kind, {}).get("config_kwargs") or {}).items()}
    return {**S3_CONFIG, "connector_args": {"socket_factory": _impatient_socket}, **own}


def _give_up_in_time(s3: Any) -> None:
    """Let S3_CONFIG alone say how long an S3FileSystem waits."""
    from aiobotocore.session import AioSession

    s3.retries = 1  # s3fs tries each request, tried three times by its client, five times
    if s3.session is None:
        s3.session = AioSession(**s3.kwargs)  # as s3fs makes it: a profile of fsspec's configuration is among them
        s3.session.register("before-call.s3", _ask_without_leave)


def _ask_without_leave(params: Any, **_: Any) -> None:
    """Send a body at once: the client waits without an end for a server's leave to send it (100 Continue)."""
    params["headers"].pop("Expect", None)


def _impatient_socket(address: Any) -> socket.socket:
    """Give up, too, what the other side does not take; the client's own time begins when all is sent."""
    made = socket.socket(*address[:3])
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(S3_CONFIG["read_timeout"] * 1000))
    return made


def addresses() -> dict[str, str]:
    """Environment variables that tell workers where the storage is; none that says who may use it."""
    found = {name: os.environ[name] for name in ADDRESSES if os.environ.get(name)}
    return {name: value for name, value in found.items() if "@" not in urlsplit(value).netloc}


def _lacks_credentials(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if type(seen).__name__ in NO_CREDENTIALS:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
