"""Profiles: small overlays that are merged into params.yaml. A profile sets values, nothing else."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from components.errors import UserError
from components.files import write_text
from components.params import PARAMS_FILE, Params, validate_params
from components.params.trees import flatten

FOLDER = Path(__file__).parents[2] / "pipelines" / "profiles"
REPLACED = {
    "plates.sets",
    "data.sources",
    "evaluate.files",
    "registry.gate",
    "tune.space",
}  # tables of named entries: a profile brings its own


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def apply(name: str, path: Path = PARAMS_FILE) -> list[tuple[str, Any, Any]]:
    """Merge a profile into params.yaml, comments kept, and return what changed: (key, before, after).

    The result is validated first: a file that would not load is never written.
    """
    tree, before = _merged(name, path)
    validate_params(plain(tree), f"profile {name} with {path}")
    after = flatten(plain(tree))
    text = io.StringIO()
    _yaml().dump(tree, text)
    write_text(path, text.getvalue())
    keys = [*after, *(key for key in before if key not in after)]
    return [(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


def load(name: str, path: Path = PARAMS_FILE) -> Params:
    """The settings that `apply` would write, without writing them."""
    tree, _ = _merged(name, path)
    return validate_params(plain(tree), f"profile {name} with {path}")


def _merged(name: str, path: Path) -> tuple[Any, dict[str, Any]]:
    """The tree of params.yaml with a profile in it, and its leaves before."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UserError(f"no profile is called {name!r}{hint} (there are: {', '.join(names())})")
    yaml = _yaml()
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the command in the root of the repository") from None
    before = flatten(plain(tree))
    merge(tree, yaml.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))
    return tree, before


def merge(tree: MutableMapping[str, Any], overlay: Mapping[str, Any], prefix: str = "") -> None:
    """Put the leaves of `overlay` into `tree`, in place; REPLACED tables and lists are replaced whole.

    The overlay's comments are its own: under another profile they would be false.
    """
    for key, value in overlay.items():
        where = f"{prefix}{key}"
        if isinstance(value, Mapping) and isinstance(tree.get(key), MutableMapping) and where not in REPLACED:
            merge(tree[key], value, f"{where}.")
        elif key in tree and plain(tree[key]) == plain(value):
            continue  # keep how the user wrote it
        else:
            tree[key] = _without_comments(value)


def _without_comments(value: Any) -> Any:
    for inner in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        _without_comments(inner)
    comments: Any = getattr(value, "ca", None)  # where ruamel keeps them
    if comments is not None:
        comments.items.clear()
        comments.comment = None
        comments.end = []
    return value


def plain(value: Any) -> Any:
    """A tree of ruamel's types as Python's own."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 160
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
