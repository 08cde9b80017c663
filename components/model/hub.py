"""Is the Hugging Face hub, or the mirror that HF_ENDPOINT names, within reach? Asked once, and known in seconds.

huggingface_hub asks a hub that is away six times for each file, for half a minute, before it looks into its cache.
"""

from __future__ import annotations

import functools
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

_TRIES = 3  # a look-up of a name may fail once
_PAUSE_S = 1.0
_CONNECT_S = 5.0  # for one address
_ALL_S = 12.0  # after so many seconds nothing is tried again


def nearest(place: str, revision: str | None = None) -> str:
    """`place` as `from_pretrained` takes it; for a hub id, where the hub is out of reach, its folder in the cache.

    Raises:
        OSError, ValueError: the cache does not hold it, or it is no hub id.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if Path(place).is_dir() or constants.HF_HUB_OFFLINE or is_reachable(constants.ENDPOINT):
        return place
    try:
        return snapshot_download(place, revision=revision, local_files_only=True)
    except LocalEntryNotFoundError:
        raise OSError(
            f"it is no folder here, {constants.ENDPOINT} cannot be reached, and the hub's cache does not hold it"
        ) from None


def downloaded(place: str, revision: str | None) -> Path:
    """The folder of a model's files, fetched from the hub where the cache does not hold them.

    Raises:
        OSError, ValueError: as above; errors of the hub are OSErrors.
    """
    from huggingface_hub import snapshot_download

    found = nearest(place, revision)
    return Path(found) if Path(found).is_dir() else Path(snapshot_download(found, revision=revision))


@functools.cache
def is_reachable(url: str) -> bool:
    """Whether a connection to the server opens. What lies behind a proxy is for the proxy to say: true."""
    parts = urlsplit(url)
    if not parts.hostname or getproxies().keys() & {parts.scheme, "all"}:
        return True
    began = time.monotonic()
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_S)
        if _opens(parts.hostname, parts.port or (80 if parts.scheme == "http" else 443), began + _ALL_S):
            return True
        if time.monotonic() - began > _ALL_S:
            break
    return False


def _opens(host: str, port: int, until: float) -> bool:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    for family, kind, protocol, _, address in found:
        left = until - time.monotonic()
        if left <= 0:
            return False
        with socket.socket(family, kind, protocol) as connection:
            connection.settimeout(min(_CONNECT_S, left))
            try:
                connection.connect(address)
            except OSError:
                continue
            return True
    return False
