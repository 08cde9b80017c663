"""Reading and changing plain trees of settings by dotted keys; a result is validated by `params.validate_params`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Value = str | int | float | bool


def setting(tree: Mapping[str, Any], key: str) -> Any:
    """`adapter.kind` in a tree of settings; None where there is no such key."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def changed(tree: Mapping[str, Any], settings: Mapping[str, Value]) -> dict[str, Any]:
    """A copy of the tree with `settings` (dotted keys) put in."""
    copy = dict(tree)
    for key, value in settings.items():
        head, _, rest = key.partition(".")
        inner = copy.get(head)
        copy[head] = changed(inner if isinstance(inner, Mapping) else {}, {rest: value}) if rest else value
    return copy


def merged(tree: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the tree with the overlay's leaves in place of its own."""
    copy = dict(tree)
    for key, value in overlay.items():
        inner = copy.get(key)
        copy[key] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return copy
