"""A name of the catalogue: what it will take, the files, and the note of what was fetched."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from components.digests import file_digest
from components.errors import UserError
from components.fetching.catalogue import Entry, Unpack
from components.fetching.download import Limits, Wanted, blob_id, download, intent, size_there
from components.fetching.hub import files_of
from components.fetching.replies import Cut
from components.files import read_json, write_json
from components.masking import masked

MIRROR = "LEA_MIRROR"  # http(s)://HOST/..: holds the files of data/raw under the same names
MOST_UNPACKED = 2 << 30  # bytes
Progress = Callable[[int, str], object]  # bytes that have arrived of all, and of which file


@dataclass(frozen=True)
class Errand:
    """A name, what it needs, and what of it is here."""

    name: str
    entry: Entry
    folder: Path
    missing: tuple[Wanted, ...]
    present: tuple[Wanted, ...]

    @property
    def num_bytes(self) -> int:
        """To fetch, as far as it is known."""
        return sum(one.num_bytes or 0 for one in self.missing)

    @property
    def all_known(self) -> bool:
        return all(one.num_bytes for one in self.missing)


def errand(name: str, entry: Entry, root: Path = Path()) -> Errand:
    """Look at what the name needs; nothing is fetched but the hub's list. `root`: the folder of the workspace."""
    folder = root / entry.folder
    if not entry.files and not entry.hub:
        raise UserError(f"{name}: {entry.by_hand}")
    recorded = _recorded(folder)
    files = files_of(entry.hub, folder) if entry.hub else [_of_table(file, folder) for file in entry.files]
    missing, present = [], []
    for one in files:
        noted = recorded.get(_name(folder, one), {})
        if not one.digest_known and noted.get("sha256"):
            one = replace(one, sha256=noted["sha256"], num_bytes=one.num_bytes or noted.get("bytes"))
        (present if one.path.exists() else missing).append(one)
    return Errand(name, entry, folder, tuple(missing), tuple(present))


def carry_out(
    task: Errand, limits: Limits, progress: Progress = lambda done, what: None, root: Path = Path()
) -> list[Path]:
    """Fetch what is missing, compare what is there, and note what was fetched in FOLDER.sources.json.

    Returns what is new.
    """
    _take_present(task, limits)
    _check_space(task, root)
    done = 0
    for one in task.missing:
        start = done
        sha256 = download(one, limits, lambda arrived, start=start, one=one: progress(start + arrived, one.path.name))
        done += one.path.stat().st_size
        _note(task, one, sha256)  # after each: one of them is 20 GB
    if task.entry.unpack:
        _unpack(task.folder, task.entry.unpack)
    return [one.path for one in task.missing]


def _take_present(task: Errand, limits: Limits) -> None:
    """Compare the files that are here; note those that were fetched: who did may have been killed before."""
    recorded, answers = _recorded(task.folder), True
    for one in task.present:
        came = _came_from_here(one.path)
        if one.num_bytes is None and not one.digest_known and not came and answers:
            one, answers = _with_size(one, limits)  # what something else has left may be half a file
        _compare(one)
        if _name(task.folder, one) in recorded:
            intent(one.path).unlink(missing_ok=True)
        elif one.digest_known or came:
            _note(task, one, one.sha256 or file_digest(one.path))
        else:  # its digest would be demanded of every other machine
            _warn(f"{one.path} was not fetched by this command and its digest is not known: it is taken, not noted")


def _came_from_here(path: Path) -> bool:
    """Whether a file is what `download` moved there, and was killed before that was noted."""
    moved = intent(path)
    return moved.is_file() and moved.read_text(encoding="utf-8", errors="replace") == file_digest(path)


def _with_size(one: Wanted, limits: Limits) -> tuple[Wanted, bool]:
    """The file with the size that its server states; without, and False, where that cannot be asked."""
    try:
        return replace(one, num_bytes=size_there(one, limits)), True
    except (Cut, UserError) as error:  # no network, as on many machines that files are copied to by hand
        reason = f"{one.url}: {error}" if isinstance(error, Cut) else str(error)
        _warn(f"{one.path} is here, but whether it is whole is not known: {masked(reason)}")
        return one, not isinstance(error, Cut)


def _warn(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _note(task: Errand, one: Wanted, sha256: str) -> None:
    noted = {
        "url": masked(one.url),  # a mirror's may hold a password, and this file is committed
        "bytes": one.path.stat().st_size,
        "sha256": sha256,
        "digest_known_before": one.digest_known,
        "licence": task.entry.licence,
        "fetched": dt.datetime.now(dt.UTC).date().isoformat(),
    }
    write_json(_notes(task.folder), {**_recorded(task.folder), _name(task.folder, one): noted})
    intent(one.path).unlink(missing_ok=True)


def _name(folder: Path, one: Wanted) -> str:
    return one.path.relative_to(folder).as_posix()


def _of_table(file: Any, folder: Path) -> Wanted:
    mirror = os.environ.get(MIRROR, "").rstrip("/")
    if mirror and not mirror.startswith(("http://", "https://")):
        raise UserError(f"{MIRROR}={mirror}: must begin with http:// or https://")
    url = f"{mirror}/{folder.name}/{file.path}" if mirror else file.url
    return Wanted(folder / file.path, url, file.bytes, file.sha256)


def _compare(one: Wanted) -> None:
    """UserError where a file that is here is not the published one."""
    remedy = "move it away, and run the same command again"
    if one.num_bytes and one.path.stat().st_size != one.num_bytes:
        raise UserError(f"{one.path} has {one.path.stat().st_size} bytes, {one.num_bytes} are published; {remedy}")
    wrong_sha256 = one.sha256 and file_digest(one.path) != one.sha256
    if wrong_sha256 or (one.blob and blob_id(one.path) != one.blob):
        raise UserError(f"{one.path} is not the file that is published (its digest differs); {remedy}")


def _check_space(task: Errand, root: Path) -> None:
    """`dvc add` copies what it cannot link, so that twice the size is needed on most file systems."""
    partial = [one.path.with_name(f".{one.path.name}.partial") for one in task.missing]
    needed = task.num_bytes - sum(path.stat().st_size for path in partial if path.is_file())
    free = shutil.disk_usage(root.resolve()).free
    if needed > free:
        raise UserError(f"{task.name} needs {needed / 1e9:.1f} GB more on this disk, {free / 1e9:.1f} GB are free")


def _unpack(folder: Path, unpack: Unpack) -> None:
    """One member of a zip, beside it."""
    archive, out = folder / unpack.file, folder / Path(unpack.member).name
    aside = out.with_name(f".{out.name}.partial")
    try:
        with zipfile.ZipFile(archive) as opened:
            size = opened.getinfo(unpack.member).file_size
            if size > MOST_UNPACKED:
                raise UserError(f"{archive}: {unpack.member} is {size} bytes unpacked, more than {MOST_UNPACKED}")
            with opened.open(unpack.member) as member, aside.open("wb") as stream:
                shutil.copyfileobj(member, stream)  # ends at the size that was stated
    except (zipfile.BadZipFile, KeyError, NotImplementedError, EOFError) as error:
        aside.unlink(missing_ok=True)
        raise UserError(
            f"{archive} holds no readable {unpack.member} ({error}); remove it and fetch it again"
        ) from None
    if out.exists() and file_digest(out) != file_digest(aside):
        aside.unlink()
        raise UserError(f"{out} is not what {archive} holds; move it away, and run the same command again")
    aside.replace(out)


def _notes(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sources.json")


def _recorded(folder: Path) -> dict[str, Any]:
    """What was noted of earlier files, on this machine or, through git, on another."""
    notes = _notes(folder)
    if not notes.exists():
        return {}
    found = read_json(notes, "fetch again")
    return {name: noted for name, noted in found.items() if isinstance(noted, dict)}
