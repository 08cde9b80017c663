"""Which files of this project a module runs: its import closure, read from the source without running it.

The digests that name runs and answers, and a test of dvc.yaml, rest on it: no edit of code that computes goes unseen.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

import components
from components.digests import digest, file_digest

ROOT = Path(components.__file__).parent.parent
PROJECT = ("components", "pipelines")
ABOVE = components.__name__.removesuffix("components")  # the package that holds both where they are installed
# Modules (and all below them) that decide nothing of a result: they show, guard, place and record it. Settings enter
# digests and DVC's params by their values. The closure ends at these.
NEUTRAL = (
    "components.cluster",
    "components.code_package",
    "components.errors",
    "components.imports",
    "components.known_digests",
    "components.leases",
    "components.locks",
    "components.nodes",
    "components.params",
    "components.progress",
    "components.shared_storage",
    "components.snapshots",
    "components.tracking",
    "components.workspace",
    "pipelines.stage",
)
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "deepspeed", "safetensors", "numpy", "pillow")


def closure(*modules: str) -> list[Path]:
    """The files that `modules` import, directly or not, at any place in them; relative to ROOT, sorted.

    Imports under `if TYPE_CHECKING` never run and do not count; NEUTRAL modules do not count either.
    """
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or _neutral(name):
            continue
        seen.add(name)
        waiting += imported(name)
    files = {path for name in seen if (path := _file(name)) is not None}
    return sorted(path.relative_to(ROOT) for path in files if path.stat().st_size)


def code_digest(*modules: str) -> str:
    """SHA-256 over the closure of `modules`: names and contents of its files."""
    return digest([[path.as_posix(), file_digest(ROOT / path)] for path in closure(*modules)])


def library_versions() -> dict[str, str]:
    """Versions of the libraries that compute, without a build's local part (2.13.0+cpu is 2.13.0)."""
    return {name: version(name).partition("+")[0] for name in LIBRARIES}


@cache
def imported(name: str) -> tuple[str, ...]:
    """The project's modules that a module names in its imports, and the packages that these lie in."""
    path = _file(name)
    if path is None:
        return ()
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for full in _names(ast.parse(path.read_text(encoding="utf-8")), package):
        parts = full.removeprefix(ABOVE).split(".")
        if parts[0] in PROJECT:
            found |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return tuple(sorted(each for each in found if _file(each) is not None))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    """Dotted names of all imports below a node; `from a import b` may mean the module a.b, so both are given."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            start = importlib.util.resolve_name("." * child.level, package).rstrip(".") if child.level else ""
            module = ".".join(part for part in (start, child.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in child.names)
        else:
            yield from _names(child, package)


def _file(name: str) -> Path | None:
    place = ROOT.joinpath(*name.split("."))
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None


def _neutral(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in NEUTRAL)
