"""Profiles: small overlays that are merged into params.yaml. A profile sets values, nothing else.

extends: llava-1.5-7b     # another profile, whose values stand where this one names none
adapter: {rank: 128}      # only what differs
"""

from __future__ import annotations

import difflib
from codecs import BOM_UTF8
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.errors import UserError
from components.files import write_text
from components.params.reading import PARAMS_FILE, read_text, read_tree, validate_params
from components.params.rewriting import rewritten
from components.params.root import Params
from components.params.trees import flatten

FOLDER = Path(__file__).parents[2] / "pipelines" / "profiles"
REPLACED = {
    "plates.sets",
    "data.sources",
    "evaluate.files",
    "registry.gate",
    "tune.space",
}  # tables of named entries: a profile brings its own
ABSENT: Any = object()  # in place of a value: the key is not there


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def overlay(name: str) -> dict[str, Any]:
    """Every value that a profile sets, those of the profiles that it extends included."""
    chain: list[dict[str, Any]] = []
    seen: list[str] = []
    wanted: str | None = name
    while wanted is not None:
        if wanted in seen or wanted not in names():
            problem = "extends itself" if wanted in seen else f"extends {wanted!r}, which is no profile"
            raise UserError(f"profile {seen[-1]} {problem}") if seen else UserError(_unknown(name))
        seen.append(wanted)
        tree = dict(read_tree(FOLDER / f"{wanted}.yaml"))
        wanted = tree.pop("extends", None)
        chain.append(tree)
    values: dict[str, Any] = {}
    for tree in reversed(chain):
        values = with_profile(values, tree)
    return values


def apply(name: str, path: Path = PARAMS_FILE) -> list[tuple[str, Any, Any]]:
    """Merge a profile into params.yaml and return what changed: (key, before, after), ABSENT where it is not there.

    Lines that hold no changed value stay as they are, comments included. The result is validated first: a file that
    would not load is never written.
    """
    text = read_text(path)
    before = read_tree(path)
    after = with_profile(before, overlay(name))
    validate_params(after, f"profile {name} with {path}")
    if after != before:
        _write_back(path, rewritten(text, after))
    return _changes(flatten(before), flatten(after))


def _write_back(path: Path, text: str) -> None:
    """Into the file that a link leads to, with the permissions, line ends and byte-order mark that it has."""
    target = path.resolve()
    mode, was = target.stat().st_mode, target.read_bytes()
    if b"\r\n" in was:
        text = text.replace("\n", "\r\n")
    write_text(target, "\ufeff" * was.startswith(BOM_UTF8) + text)
    target.chmod(mode)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """An empty table beside one with entries is no change of its own: the entries stand for it."""
    keys = [*new, *(key for key in old if key not in new)]
    pairs = [(key, old.get(key, ABSENT), new.get(key, ABSENT)) for key in keys]
    tables = {".".join(parts[:end]) for key in keys for parts in [key.split(".")] for end in range(1, len(parts))}
    return [one for one in pairs if one[1] != one[2] and not (one[0] in tables and {} in one[1:])]


def load(name: str, path: Path = PARAMS_FILE) -> Params:
    """The settings that `apply` would write, without writing them."""
    return validate_params(with_profile(read_tree(path), overlay(name)), f"profile {name} with {path}")


def with_profile(tree: Mapping[str, Any], values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A copy of the tree with the overlay's leaves in place of its own; REPLACED tables and lists are taken whole."""
    copy = dict(tree)
    for key, value in values.items():
        where, inner = f"{prefix}{key}", copy.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping) and where not in REPLACED:
            copy[key] = with_profile(inner, value, f"{where}.")
        else:
            copy[key] = value
    return copy


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"no profile is called {name!r}{hint} (there are: {', '.join(names())})"
