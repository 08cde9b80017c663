"""The examples of docs/extending.md, as modules."""

from __future__ import annotations

import re
import sys
from types import ModuleType
from typing import Any

from tools.markdown import ROOT

PAGE = ROOT / "docs" / "extending.md"


def example(file: str) -> str:
    """The Python block that follows the file's name."""
    found = re.search(rf"/{re.escape(file)}`:\n\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found, f"{PAGE} has no example {file}"
    return found[1]


def run_example(file: str) -> dict[str, Any]:
    """The names that the example defines; it is a module of its own, as a file would be."""
    module = ModuleType(f"example_{file.removesuffix('.py')}")
    sys.modules[module.__name__] = module  # where dataclasses look up their annotations
    exec(compile(example(file), file, "exec"), module.__dict__)
    return vars(module)
