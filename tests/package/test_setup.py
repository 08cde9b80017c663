"""How imports are moved when a wheel is built, and what the package needs and hands on."""

from __future__ import annotations

import importlib.util
import tomllib

import pytest

import local_enhanced_adapters as package
from components.adapters import DualLoraConfig
from components.evaluation import metrics
from components.model.visual_cue import VisualCueEnhancement
from tools.markdown import ROOT

spec = importlib.util.spec_from_file_location("project_setup", ROOT / "setup.py")
assert spec
assert spec.loader
layout = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layout)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from components.data import x\n", "from _local_enhanced_adapters.components.data import x\n"),
        (
            "def f():\n    from pipelines import stage\n",
            "def f():\n    from _local_enhanced_adapters.pipelines import stage\n",
        ),
        ("import components\n", "from _local_enhanced_adapters import components\n"),
        ("from .config import a\nimport componentsx\n", "from .config import a\nimport componentsx\n"),
        ('"""from components import x"""\n', '"""from components import x"""\n'),
        ('é = "é"; from components import x\n', 'é = "é"; from _local_enhanced_adapters.components import x\n'),
    ],
)
def test_absolute_imports_are_moved(before: str, after: str) -> None:
    assert layout.moved_imports(before) == after


def test_import_that_cannot_be_moved_is_refused() -> None:
    with pytest.raises(ValueError, match="write it as"):
        layout.moved_imports("import components.data\n")


def test_every_import_of_the_project_can_be_moved() -> None:
    for top in ("components", "pipelines", "local_enhanced_adapters"):
        for path in (ROOT / top).rglob("*.py"):
            compile(layout.moved_imports(path.read_text("utf-8")), str(path), "exec")


def test_package_hands_on_the_same_objects() -> None:
    assert package.DualLoraConfig is DualLoraConfig
    assert package.VisualCueEnhancement is VisualCueEnhancement
    assert package.metrics is metrics
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_adapters_need_torch_and_peft_alone() -> None:
    assert sorted(need.partition(">")[0] for need in PROJECT["dependencies"]) == ["peft", "torch"]


def test_versions_agree() -> None:
    assert package.__version__ == PROJECT["version"]
    assert f"version: {PROJECT['version']}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"## {PROJECT['version']} - " in (ROOT / "CHANGELOG.md").read_text("utf-8")
