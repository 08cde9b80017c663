"""Names of files that others have written: in a listing, on a server."""

from __future__ import annotations

from pathlib import PurePosixPath


def inside(path: str) -> str:
    """A path that stays in the folder that it is joined to; ValueError for another."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or "\0" in path or {"..", "."} & {*path.split("/")}:
        raise ValueError(f"{path[:80]!a} must be a path within the folder")
    return path
