"""How the wheel is laid out; everything else about the package stands in pyproject.toml.

In the repository `components` and `pipelines` are packages at the top. An installed package must not claim such names
for itself, nor be shadowed by a user's folder of that name. So the wheel holds, as pytest's does,

    local_enhanced_adapters/            the public name
    _local_enhanced_adapters/           components/ and pipelines/, with their absolute imports moved below this name

Imports are rewritten when the wheel is built, from the syntax tree; an editable install is the repository as it is.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

PRIVATE, MOVED = "_local_enhanced_adapters", ("components", "pipelines")


def moved_imports(source: str) -> str:
    """`from components.x import y` -> `from _local_enhanced_adapters.components.x import y`, and so on."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and _is_moved(node.module or ""):
            _replace(lines, node, "from ", f"from {PRIVATE}.")
        elif isinstance(node, ast.Import) and any(_is_moved(alias.name) for alias in node.names):
            (alias,) = node.names
            if "." in alias.name:
                raise ValueError(f"write it as `from .. import ..`: {ast.unparse(node)}")
            _replace(lines, node, "import ", f"from {PRIVATE} import ")
    return "".join(lines)


def _is_moved(module: str) -> bool:
    return module.partition(".")[0] in MOVED


def _replace(lines: list[str], node: ast.stmt, old: str, new: str) -> None:
    line, column = node.lineno - 1, node.col_offset
    raw = lines[line].encode()  # columns count bytes
    assert raw[column:].startswith(old.encode())
    lines[line] = (raw[:column] + new.encode() + raw[column + len(old) :]).decode()


class BuildPy(build_py):
    def run(self) -> None:
        built = Path(self.build_lib)
        for name in (PRIVATE, *MOVED):  # what an earlier build left
            shutil.rmtree(built / name, ignore_errors=True)
        super().run()
        if self.editable_mode:
            return
        private = built / PRIVATE
        private.mkdir()
        (private / "__init__.py").write_text(
            '"""Not an interface: import local_enhanced_adapters."""\n', encoding="utf-8"
        )
        for name in MOVED:
            shutil.move(built / name, private / name)
        for path in [*private.rglob("*.py"), *(built / "local_enhanced_adapters").rglob("*.py")]:
            path.write_text(moved_imports(path.read_text(encoding="utf-8")), encoding="utf-8")


class BdistWheel(bdist_wheel):
    def write_wheelfile(self, wheelfile_base: str, *args: str) -> None:
        """The last file of the metadata; an editable install asks for it too, and keeps its scripts as they are."""
        super().write_wheelfile(wheelfile_base, *args)
        if "bdist_wheel" in self.distribution.commands:
            scripts, names = (Path(wheelfile_base, name) for name in ("entry_points.txt", "top_level.txt"))
            scripts.write_text(scripts.read_text("utf-8").replace("= pipelines.", f"= {PRIVATE}.pipelines."), "utf-8")
            names.write_text(f"{PRIVATE}\nlocal_enhanced_adapters\n", "utf-8")


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildPy, "bdist_wheel": BdistWheel})
