"""The lines of docs/troubleshooting.md: what a user's mistake can print, from the UserErrors in the code.

    python -m tools.errors_page

What a message fills in stands in angle brackets; a message that is nearly all filled in is left out. A test fails when
the page does not hold what this prints.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tools.markdown import ROOT, replaced

PAGE = ROOT / "docs" / "troubleshooting.md"
FEWEST_WORDS = 2  # that are fixed, for a line to be found by
PACKAGES = {
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
            if len(re.findall(r"[A-Za-z]{2,}", _outside(text).replace("params.yaml", ""))) >= FEWEST_WORDS:
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
    match node:
        case ast.Attribute(attr="__name__", value=inner):
            return _name(inner)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").replace("_", " ").lower()
        case ast.Call(func=ast.Attribute(value=ast.Constant()) | ast.Name(), args=[first, *_]):  # ", ".join(names)
            return _name(first)
        case ast.Call(func=ast.Attribute(value=inner)) | ast.Subscript(value=inner):  # its method, or an item of it
            return _name(inner)
        case ast.IfExp(body=inner) | ast.BinOp(left=inner) | ast.Starred(value=inner):
            return _name(inner)
        case ast.GeneratorExp(elt=inner) | ast.ListComp(elt=inner):
            return _name(inner)
    return next((_name(each) for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute)), "value")


def _outside(text: str) -> str:
    """What of a message is fixed."""
    kept, depth = [], 0
    for character in text:
        depth += (character == "‹") - (character == "›")
        if depth == 0 and character != "›":
            kept.append(character)
    return "".join(kept)


def by_package() -> dict[str, list[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for top in ("components", "pipelines"):
        for path in sorted((ROOT / top).rglob("*.py")):
            place = path.relative_to(ROOT).parts
            package = "pipelines" if top == "pipelines" else place[1].removesuffix(".py")
            found[PACKAGES.get(package, "Surroundings")].update(messages(path))
    return {
        package: sorted(found[package], key=lambda text: text.lstrip("‹'`").lower())
        for package in sorted(found)
        if found[package]
    }


def page(text: str) -> str:
    """The page's text with the lines as they are now."""
    parts = []
    for package, lines in by_package().items():
        parts.append("\n".join([f"### {package}", "", *(f"- `{line.replace('`', chr(39))}`" for line in lines)]))
    return replaced(text, "lines", "\n\n".join(parts))


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
