"""Checks the shapes that signatures name, while a test runs: the code itself imports jaxtyping for type checkers alone.

    def forward(self, x: Float[Tensor, "*tokens inputs"]) -> Float[Tensor, "*tokens rank"]

A name stands for one size within one call.
"""

from __future__ import annotations

from types import FunctionType, ModuleType
from typing import Any

import jaxtyping
import pytest
from beartype import beartype

KINDS = ("Bool", "Float", "Int")


def check_shapes(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> list[str]:
    """Until the test ends, calls of the modules' annotated functions and methods raise on a wrong shape.

    Returns:
        Names of what is checked, as `module.Class.method`.
    """
    checked: dict[Any, Any] = {}
    for module in modules:
        for kind in KINDS:
            monkeypatch.setattr(module, kind, getattr(jaxtyping, kind), raising=False)
        classes = [each for each in vars(module).values() if isinstance(each, type)]
        for owner in (module, *(each for each in classes if each.__module__ == module.__name__)):
            for name, function in list(vars(owner).items()):
                if _names_shapes(function) and function.__module__ == module.__name__:
                    checked[function] = jaxtyping.jaxtyped(typechecker=beartype)(function)
                    monkeypatch.setattr(owner, name, checked[function])
    for module in modules:  # names that one module imports from another
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value in checked:
                monkeypatch.setattr(module, name, checked[value])
    return [f"{function.__module__}.{function.__qualname__}" for function in checked]


def _names_shapes(function: Any) -> bool:
    if not isinstance(function, FunctionType):
        return False
    return any(f"{kind}[" in str(hint) for hint in function.__annotations__.values() for kind in KINDS)
