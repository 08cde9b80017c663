"""docs/troubleshooting.md: every line that a user's mistake can print, from the UserErrors in the code.

    python -m tools.errors_page

What a message fills in stands in angle brackets. A test fails when the page is not what this prints.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.markdown import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
INTRODUCTION = """\
# Troubleshooting

A mistake in settings, files or surroundings is one line on standard error (`error: ...`) and exit code 2; Ctrl-C is
130. Under `dvc` and `make`, which add lines and codes of their own, that line is the last of ours. `LEA_VERBOSE=1` lets
the libraries' own messages through. Where a line names a command, that command mends it.

Find your line below: search for its first words. What a message fills in stands in ‹angle brackets›. The lines are
collected from the code by `python -m tools.errors_page`, by the package they come from.
"""
ROOMS = {
    "adapters": "Adapters",
    "costs": "Planning",
    "data": "Prepared data",
    "evaluation": "Evaluation and scoring",
    "images": "Images",
    "model": "Model and base",
    "params": "Settings",
    "pipelines": "Commands and stages",
    "prepare": "Preparing data",
    "search": "Searching",
    "serving": "Serving",
    "sources": "Sources of data",
    "tracking": "Tracking, registry and gate",
    "training": "Training",
}


def messages(path: Path) -> Iterator[str]:
    """The text of every UserError(...) and StorageError(...) of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("UserError", "StorageError") and node.args:
            text = " ".join(_text(node.args[0]).split())
            if any(character.isalpha() for character in _outside(text)):
                yield text


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(_text(value) for value in values)
        case ast.BinOp(left=left, right=right, op=ast.Add()):
            return _text(left) + _text(right)
        case ast.FormattedValue(value=value):
            return f"‹{_name(value)}›"
    return f"‹{_name(node)}›"


def _name(node: ast.expr) -> str:
    """A word or two for what is filled in: the last name of an expression, of a call its first argument's."""
    if isinstance(node, ast.Call) and node.args:
        return _name(node.args[0])
    for each in ast.walk(node):
        if isinstance(each, ast.Name | ast.Attribute):
            name = each.id if isinstance(each, ast.Name) else each.attr
            return name.strip("_").replace("_", " ").lower()
    return "value"


def _outside(text: str) -> str:
    """What of a message is fixed."""
    kept, depth = [], 0
    for character in text:
        depth += (character == "‹") - (character == "›")
        if depth == 0 and character != "›":
            kept.append(character)
    return "".join(kept)


def by_room() -> dict[str, list[str]]:
    rooms: dict[str, set[str]] = defaultdict(set)
    for top in ("components", "pipelines"):
        for path in sorted((ROOT / top).rglob("*.py")):
            place = path.relative_to(ROOT).parts
            room = "pipelines" if top == "pipelines" else place[1].removesuffix(".py")
            rooms[ROOMS.get(room, "Surroundings")].update(messages(path))
    return {
        room: sorted(rooms[room], key=lambda text: text.lstrip("‹'`").lower()) for room in sorted(rooms) if rooms[room]
    }


def page() -> str:
    parts = [INTRODUCTION.rstrip()]
    for room, lines in by_room().items():
        parts.append("\n".join([f"## {room}", "", *(f"- `{line.replace('`', chr(39))}`" for line in lines)]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
