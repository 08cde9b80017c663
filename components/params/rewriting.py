"""New values in a YAML text that people and DVC edit too: lines that hold no changed value stay as they are.

The text is written as DVC writes it (`dvc exp run -S`), and of that only the changed lines are taken over: a
three-way merge of the text with what DVC's writer makes of it before and after the change.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from components.errors import UserError
from components.params.reading import parse

ONE_LINE = 64  # characters: longer maps are written as blocks, since DVC would wrap them at 80 columns


def rewritten(text: str, values: Mapping[str, Any]) -> str:
    """The text with `values` for its tree; it had others before."""
    try:
        tree = _writer().load(text)
    except YAMLError:  # YAML 1.1 that 1.2 does not know
        return _dumped(_styled(values))
    before = _dumped(tree)
    _put(tree, parse(text), values)
    after = _dumped(tree)
    merged = "".join(_merge(before.splitlines(True), text.splitlines(True), after.splitlines(True)))
    for candidate in (merged, after):
        if _reads_as(candidate, values):
            return candidate
    return _dumped(_styled(values))  # anchors and merge keys: what a change of one value would change elsewhere


def _reads_as(text: str, values: Mapping[str, Any]) -> bool:
    try:
        return parse(text) == values
    except UserError:
        return False


def _put(tree: CommentedMap, before: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Make the tree, which holds `before`, equal to `values`, in place."""
    for key in [key for key in tree if key not in values]:
        del tree[key]
    for key, value in values.items():
        old, was = tree.get(key), before.get(key)
        if key in before and was == value:
            continue
        if isinstance(value, Mapping) and isinstance(was, Mapping) and _is_edit(old, value):
            _put(old, was, value)
        else:
            _replace(tree, key, _styled(value))


def _is_edit(old: Any, values: Mapping[str, Any]) -> bool:
    """Whether all keys are there, in this order and with the same one at the end, where the comments behind stand."""
    return (
        bool(values)
        and isinstance(old, CommentedMap)
        and [key for key in old if key in values] == list(values)
        and list(old)[-1] == list(values)[-1]
    )


def _replace(tree: CommentedMap, key: str, value: Any) -> None:
    """Set a key. Comments and blank lines behind a list or map belong to its last item in ruamel's tree: keep them."""
    behind = _comment_behind(tree, key) if isinstance(tree.get(key), CommentedMap | CommentedSeq) else None
    tree[key] = value
    if behind is not None:
        owner, last, slot = _last_item(tree, key)
        owner.ca.items.setdefault(last, [None] * 4)[slot] = behind
    for comment in tree.ca.items.get(key) or ():
        if hasattr(comment, "start_mark"):
            comment.start_mark.column = 0  # one space behind the value, however long that is


def _comment_behind(tree: CommentedMap, key: str) -> Any:
    owner, last, slot = _last_item(tree, key)
    comments = owner.ca.items.get(last) or [None] * 4
    return comments[slot] if owner is not tree else None  # what stands in the tree itself stays there


def _last_item(owner: Any, key: Any) -> tuple[Any, Any, int]:
    """The innermost list or map that ends where the value of `key` ends, its last key, and where its comment is."""
    value = owner[key]
    if isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        return _last_item(value, len(value) - 1 if isinstance(value, CommentedSeq) else list(value)[-1])
    return owner, key, 0 if isinstance(owner, CommentedSeq) else 2


def _styled(value: Any) -> Any:
    """Lists as blocks, short maps of scalars in one line."""
    if isinstance(value, Mapping):
        styled = CommentedMap({key: _styled(inner) for key, inner in value.items()})
        scalars = not any(isinstance(inner, Mapping | list) for inner in value.values())
        if scalars and len(", ".join(f"{key}: {inner}" for key, inner in value.items())) <= ONE_LINE:
            styled.fa.set_flow_style()
        return styled
    return CommentedSeq([_styled(inner) for inner in value]) if isinstance(value, list) else value


def _merge(before: Sequence[str], text: Sequence[str], after: Sequence[str]) -> list[str]:
    """The lines of `text` with the changes that lead from `before` to `after`.

    `first` and `last` map borders between lines of `before` to borders of `text`; they differ where `text` has lines
    that `before` has not.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for block in SequenceMatcher(None, before, text, autojunk=False).get_matching_blocks():
        for step in range(block.size + 1):
            first.setdefault(block.a + step, block.b + step)
            last[block.a + step] = block.b + step
    lines: list[str] = []
    done = 0
    for kind, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        while a not in last:
            a, c = a - 1, c - 1
        while b not in first:
            b, d = b + 1, d + 1
        lines += [*text[done : last[a]], *after[c:d]]
        done = max(last[a], first[b])
    return [*lines, *text[done:]]


def _dumped(tree: CommentedMap) -> str:
    text = io.StringIO()
    _writer().dump(tree, text)
    return text.getvalue()


def _writer() -> YAML:
    """As DVC sets it up, but that quotes stay."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.representer.add_representer(float, _number)
    return yaml


def _number(representer: Any, value: float) -> Any:
    """5.0e-5: what Python writes, 5e-05, is text to YAML 1.1."""
    mantissa, exponent, power = repr(value).partition("e")
    if exponent:
        mantissa = f"{mantissa if '.' in mantissa else mantissa + '.0'}e{int(power)}"
    return representer.represent_scalar("tag:yaml.org,2002:float", mantissa)
