"""Trees of settings by dotted keys: get, set, merge, flatten, nest. A result is validated by `validate_params`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Value = str | int | float | bool | Sequence[Any] | Mapping[str, Any]


def setting(tree: Mapping[str, Any], key: str) -> Any:
    """`adapter.kind` in a tree of settings; None where there is no such key."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def changed(tree: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
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


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"adapter": {"rank": 8}} -> {"adapter.rank": 8}; an empty mapping stays a leaf."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return flat


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"adapter.rank": 8} -> {"adapter": {"rank": 8}}."""
    return changed({}, settings)
