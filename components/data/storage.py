"""Prepared data on a disk, or under any URL that fsspec knows (s3://, gs://, ..) with its own settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.errors import UserError


def is_url(place: Path | str) -> bool:
    return "://" in str(place)


def opened(place: str) -> Any:
    """A file to read bytes from, for `with`; FileNotFoundError where it is not there."""
    return _remote(place) if is_url(place) else Path(place).open("rb")


def open_parquet(place: str) -> pq.ParquetFile:
    """Local files are mapped and read by the thread that asks; of a remote one only what is asked for is fetched."""
    if is_url(place):
        return pq.ParquetFile(_remote(place), pre_buffer=True)
    return pq.ParquetFile(place, memory_map=True, pre_buffer=False)


def _remote(url: str) -> Any:
    import fsspec

    try:
        store, path = fsspec.url_to_fs(url)
        return store.open(path, "rb", cache_type="none")  # rows are asked for once: reading ahead would be waste
    except FileNotFoundError:
        raise
    except Exception as error:  # each store has errors of its own: no credentials, no bucket, no answer, no such store
        raise UserError(f"{url} cannot be read: {type(error).__name__}: {error}"[:300]) from None
