"""Files that are whole or absent: written aside, then moved into place."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends well it replaces `target`.

    Whenever the process is killed, `target` is the old folder, the new one or absent, never a part of one. What a
    killed process left beside it is put back or removed here, by the next one.
    """
    aside, old = target.with_name(f".{target.name}.partial"), target.with_name(f".{target.name}.old.partial")
    if os.path.lexists(old) and not os.path.lexists(target):  # killed between the moves below; `old` is whole
        old.rename(target)
    elif os.path.lexists(old):
        remove_folder(old)
    _discard(_going(old))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        if os.path.lexists(target):
            target.rename(old)
        try:
            aside.rename(target)
        except OSError:
            if os.path.lexists(old):
                old.rename(target)
            raise
        if os.path.lexists(old):
            remove_folder(old)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_folder(target: Path) -> None:
    """Remove a folder that nobody may find in part: it goes out of the way first."""
    going = _going(target)
    _discard(going)
    target.rename(going)
    _discard(going)


def _going(target: Path) -> Path:
    return target.with_name(f".{target.name.removeprefix('.')}.going.partial")


def _discard(path: Path) -> None:
    """Remove a folder, or a link that stood in a folder's place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def expanded(path: str, named_by: str) -> Path:
    """The path with `~` and `~user` put in. UserError where there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{named_by} {path} is no folder: {str(error).lower().rstrip('.')}") from None


def write_text(target: Path, text: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.partial")
    try:
        with aside.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def write_tensors(target: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors; a full disk is the OSError that it is everywhere else."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(dict(tensors), target)
    except SafetensorError as error:
        if "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from None
        raise


def read_json(path: Path, remedy: str, keys: Sequence[str] = ()) -> Any:
    """The object in a JSON file that this project has written. UserError with the remedy where it is not whole."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; {remedy}") from None
    except (IsADirectoryError, NotADirectoryError):
        raise UserError(f"{path} is not a file; remove it, then {remedy}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path} is not valid JSON ({reason}); remove it, then {remedy}") from None
    lacking = [key for key in keys if key not in value] if isinstance(value, dict) else list(keys)
    if lacking or not isinstance(value, dict):
        found = f"lacks {', '.join(lacking)}" if lacking else f"holds a {type(value).__name__}, not an object"
        raise UserError(f"{path} {found}; remove it, then {remedy}")
    return value


def write_json(target: Path, value: Any) -> None:
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_csv(target: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A header and the rows, as `dvc plots` and the report read them."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows(rows)
    write_text(target, text.getvalue())
