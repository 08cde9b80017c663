"""Which source files of this project a module reads when it works: the closure of its imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from components.home import digest, file_digest

ROOT = Path(__file__).parents[1]  # holds the packages
PACKAGES = ("components", "pipelines")


def source_files(module: str) -> list[Path]:
    """The files of `module` and of all that it imports, at its top or within functions, sorted."""
    found: set[Path] = set()
    left = [module]
    while left:
        for path in _files_of(left.pop()):
            if path not in found:
                found.add(path)
                left += _imported(path)
    return sorted(found)


def source_digest(module: str) -> str:
    """SHA-256 over names and contents of these files."""
    return digest([[path.relative_to(ROOT).as_posix(), file_digest(path)] for path in source_files(module)])


def _files_of(module: str) -> Iterator[Path]:
    """A module's file, and the __init__.py of each package that it is in."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        place = ROOT.joinpath(*parts[:length])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield path


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]  # a module or a name in one
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in PACKAGES)
