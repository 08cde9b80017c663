"""The picture of the layers in docs/architecture.md, from the import-linter contract of pyproject.toml.

python -m tools.layers
"""

from __future__ import annotations

import tomllib

from tools.markdown import ROOT, replaced

PAGE = ROOT / "docs" / "architecture.md"


def picture() -> str:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")["layers"]
    rooms = ["   ".join(part.strip().removeprefix("components.") for part in layer.split(":")) for layer in layers]
    width = max(len(room) for room in rooms) + 4
    return "\n".join(["```text", *(f"{room:^{width}}".rstrip() for room in rooms), "```"])


def page(text: str) -> str:
    return replaced(text, "layers", picture())


def main() -> None:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(PAGE.relative_to(ROOT))


if __name__ == "__main__":
    main()
