"""Folders in the shared storage: a listing (name -> SHA-256), and each file once, under its digest.

A listing is written when all its files are there, so that a folder is complete or absent. What is read is compared
with its digest. On a node the files lie once in a cache, however many folders and workers use them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from components.digests import digest, file_digest
from components.errors import UserError
from components.files import expanded, fresh_folder, remove_folder
from components.known_digests import Digests
from components.paths import inside
from components.progress import by_bytes
from components.shared_storage import SharedStorage, StorageError

Listing = dict[str, str]  # name of a file, with slashes -> SHA-256 of its content
AT_ONCE = 8  # transfers
FOLDERS, FILES, RUNS = "folders", "files", "runs"
SHA_256 = re.compile(r"[0-9a-f]{64}")
TRIES = 3  # to read a run's state that is being replaced


def cache_folder() -> Path:
    """Where this machine keeps what it has fetched: under XDG_CACHE_HOME, by default ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(root, "XDG_CACHE_HOME").absolute() / "local-enhanced-adapters"


def put_folder(storage: SharedStorage, files: Mapping[str, Path], digests: Digests) -> str:
    """Put files under their names in the storage as one folder that never changes; its digest.

    Files that are there already, of this folder or another, are not sent again.
    """
    unknown = {each: path for each, path in sorted(files.items()) if not digests.knows(path)}
    with by_bytes("read for the storage", unknown) as done:
        for each, path in unknown.items():
            digests.of(path)
            done(each, path.stat().st_size)
    listing = {name: digests.of(path) for name, path in sorted(files.items())}
    name = digest(listing)
    by_digest = {listing[each]: path for each, path in files.items()}
    _put_files(storage, FILES, by_digest, "sent to the storage")  # once they were there: a store may let files expire
    if not storage.exists(f"{FOLDERS}/{name}.json"):
        storage.write(f"{FOLDERS}/{name}.json", json.dumps(listing).encode())
    return name


def fetch_folder(storage: SharedStorage, name: str) -> Path:
    """The folder of `put_folder` on this machine: from the cache, or fetched into it."""
    cache = cache_folder()
    folder = cache / FOLDERS / name
    with locked(cache, FILES):  # what two workers ask for, or two folders share, is fetched once
        digests = Digests(cache / "seen.json")
        listing = _listing(storage, f"{FOLDERS}/{name}.json", name)
        if listing is None:
            raise UserError(f"{storage.url} holds no folder {name[:16]}; run the command again to put it there")
        if not _is_whole(folder, listing, digests):
            try:
                _fetch_files(storage, listing, cache, digests)
            except FileNotFoundError:
                raise StorageError(
                    f"{storage.url} lacks files of folder {name[:16]}; run the command again to put them there"
                ) from None
            links = {folder / each: cache / FILES / value for each, value in listing.items()}
            with digests.linking(links), fresh_folder(folder) as aside:
                for each, value in listing.items():
                    (aside / each).parent.mkdir(parents=True, exist_ok=True)
                    os.link(cache / FILES / value, aside / each)
        digests.keep()
    return folder


def publish(
    storage: SharedStorage, run: str, folder: Path, names: Callable[[Path], Iterator[str]], digests: Digests
) -> None:
    """Make the storage's state of a run that of the files `names(folder)`: all of them, or the state before.

    Files that neither state holds are removed; those of the state before stay for one that reads it now.
    """
    found = run_listing(storage, run)
    before = found or {}
    listing = {name: digests.of(folder / name) for name in sorted(names(folder))}
    if listing == found:  # a run without files is written too: it is there
        return
    there, pool = set(before.values()), f"{RUNS}/{run}/{FILES}"
    new = {value: folder / name for name, value in listing.items() if value not in there}
    _put_files(storage, pool, new)
    storage.write(f"{RUNS}/{run}/listing.json", json.dumps(listing).encode())
    for value in set(_before(storage, run).values()) - set(listing.values()) - there:
        storage.remove(f"{pool}/{value}")
    storage.write(f"{RUNS}/{run}/before.json", json.dumps(before).encode())


def _before(storage: SharedStorage, run: str) -> Listing:
    return _listing(storage, f"{RUNS}/{run}/before.json") or {}


def run_listing(storage: SharedStorage, run: str) -> Listing | None:
    return _listing(storage, f"{RUNS}/{run}/listing.json")


def read_file(storage: SharedStorage, run: str, value: str) -> bytes | None:
    """The content of a run's small file by its digest, or None where it is not there."""
    return storage.read(f"{RUNS}/{run}/{FILES}/{value}") if value else None


def is_there(storage: SharedStorage, run: str) -> bool:
    return storage.exists(f"{RUNS}/{run}/listing.json")


def collect(
    storage: SharedStorage,
    run: str,
    folder: Path,
    names: Callable[[Path], Iterator[str]],
    digests: Digests,
    wanted: Callable[[str], bool] = lambda name: True,
) -> Listing | None:
    """Make the files `names(folder)` those of the storage's state of a run, as far as they are wanted; the state.

    Folders are whole or absent at every moment, as far down as files lie in them. None where the storage holds no
    such run; the folder stays as it is then.
    """
    listing: Listing = {}
    for left in reversed(range(TRIES)):
        found = run_listing(storage, run)
        if found is None:
            return None
        listing = found
        try:
            _collect(storage, run, folder, {n: v for n, v in listing.items() if wanted(n)}, digests)
            break
        except FileNotFoundError:  # the state has been replaced, twice, since its listing was read
            if not left:
                raise UserError(f"{storage.url}/{RUNS}/{run} lacks files of its listing; remove it") from None
    tops = {_whole_folder(name) for name in listing}
    for name in [each for each in names(folder) if wanted(each) and each not in listing]:
        top = _whole_folder(name)
        if not top or top in tops:
            (folder / name).unlink(missing_ok=True)
        elif (folder / top).exists():
            remove_folder(folder / top)
    return listing


def _whole_folder(name: str) -> str:
    """The folder that a file of a run belongs to and that is there whole or not at all; empty: the file itself."""
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "checkpoints" else parts[0] if len(parts) > 1 else ""


def _collect(storage: SharedStorage, run: str, folder: Path, listing: Listing, digests: Digests) -> None:
    pool = f"{RUNS}/{run}/{FILES}"
    inside: dict[str, Listing] = {}  # by folder that is whole or absent
    for name, value in listing.items():
        inside.setdefault(_whole_folder(name), {})[name] = value
    for top, members in inside.items():
        if all((folder / name).is_file() and digests.of(folder / name) == value for name, value in members.items()):
            continue
        if not top:
            for name, value in members.items():
                _get(storage, f"{pool}/{value}", folder / name, value)
            continue
        with fresh_folder(folder / top) as aside:
            for name, value in members.items():
                _get(storage, f"{pool}/{value}", aside / name.removeprefix(f"{top}/"), value)


def remove_run(storage: SharedStorage, run: str) -> None:
    """Remove a run's state: the listing first, so that no part of one is ever taken for a whole."""
    storage.remove(f"{RUNS}/{run}/listing.json")
    storage.remove(f"{RUNS}/{run}")


def _listing(storage: SharedStorage, name: str, expected: str | None = None) -> Listing | None:
    content = storage.read(name)
    if content is None:
        return None
    try:
        listing = _checked(json.loads(content))
    except (ValueError, RecursionError):
        raise StorageError(f"{storage.url}/{name} is damaged: it is no listing of files; remove it") from None
    if expected is not None and digest(listing) != expected:
        raise UserError(f"{storage.url}/{name} is not what was put there; remove it")
    return listing


def _checked(listing: Any) -> Listing:
    """ValueError where it is no listing, or names what lies outside its folder: others may write in the storage."""
    if not isinstance(listing, dict):
        raise ValueError("no object")
    for name, value in listing.items():
        inside(name)
        if not isinstance(value, str) or not SHA_256.fullmatch(value):
            raise ValueError(f"{name}: no digest")
    return listing


def _put_files(storage: SharedStorage, pool: str, files: Mapping[str, Path], title: str = "") -> None:
    """Send the files, by digest, that are not there. title: of the bar that shows it; none without."""
    with ThreadPoolExecutor(AT_ONCE) as transfers:
        there = transfers.map(lambda value: storage.exists(f"{pool}/{value}"), files)
        new = {value: files[value] for value, is_there in zip(files, there, strict=True) if not is_there}
        with by_bytes(title, new) as sent:

            def put(value: str) -> None:
                storage.put(f"{pool}/{value}", new[value], lambda num_bytes: sent(value, num_bytes))
                sent(value, new[value].stat().st_size)  # not every store says how far it is

            list(transfers.map(put, new))


def _fetch_files(storage: SharedStorage, listing: Listing, cache: Path, digests: Digests) -> None:
    def fetch(value: str) -> None:
        file = cache / FILES / value
        if not file.is_file() or digests.of(file) != value:
            _get(storage, f"{FILES}/{value}", file, value)
            digests.note(file, value)

    with ThreadPoolExecutor(AT_ONCE) as transfers:
        list(transfers.map(fetch, set(listing.values())))


def _get(storage: SharedStorage, name: str, file: Path, value: str) -> None:
    """Fetch one file; it is there whole and as its digest says, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        storage.get(name, aside)
        if file_digest(aside) != value:
            raise UserError(f"{storage.url}/{name} is damaged: it does not match its digest; remove it")
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def _is_whole(folder: Path, listing: Listing, digests: Digests) -> bool:
    return all((folder / name).is_file() and digests.of(folder / name) == value for name, value in listing.items())


@contextmanager
def locked(cache: Path, name: str) -> Iterator[None]:
    """Held against the other processes of this machine."""
    (cache / "locks").mkdir(parents=True, exist_ok=True)
    with (cache / "locks" / name).open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
