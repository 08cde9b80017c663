"""The import closure, and what rests on it: dvc.yaml and the digests of runs."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import imports
from components.imports import NEUTRAL, ROOT, closure, code_digest

STAGES: dict[str, Any] = {
    **yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"],
    **yaml.safe_load((ROOT / "tune" / "dvc.yaml").read_text(encoding="utf-8"))["stages"],
}
# It changes nothing that is computed, and runs on every `dvc repro` whatever its dependencies say.
ALWAYS_RUN = {"register"}


@pytest.mark.parametrize("stage", sorted(set(STAGES) - ALWAYS_RUN))
def test_a_stage_depends_on_all_code_that_it_runs(stage: str) -> None:
    settings = STAGES[stage].get("do", STAGES[stage])
    stated = [Path(path) for path in settings["deps"]]
    missing = [
        str(path)
        for path in closure(f"pipelines.{stage}")
        if not any(path == each or each in path.parents for each in stated)
    ]
    assert not missing, f"dvc.yaml: {stage} runs code that its deps do not name"


@pytest.mark.parametrize("stage", sorted(set(STAGES) - ALWAYS_RUN))
def test_a_stage_depends_on_no_code_that_it_does_not_run(stage: str) -> None:
    settings = STAGES[stage].get("do", STAGES[stage])
    run = closure(f"pipelines.{stage}")
    for each in (Path(path) for path in settings["deps"] if path.startswith("components")):
        assert any(path == each or each in path.parents for path in run), each


def test_the_closure_holds_everything_that_python_loads() -> None:
    """What really is in sys.modules after the imports of a training step stands in the closure or is neutral."""
    program = (
        "import sys, components.training.loop, components.batching.collator, components.model.assemble;"
        "print(*[name for name in sys.modules if name.split('.')[0] == 'components'])"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    ).stdout.split()
    names = {path.with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__") for path in _trained()}
    for name in loaded:
        if any(name == each or name.startswith(f"{each}.") for each in NEUTRAL):
            continue
        source = importlib.util.find_spec(name)
        assert name in names or (source and source.origin and not Path(source.origin).stat().st_size), name


@pytest.mark.parametrize(
    "file", ["images/decoding.py", "data/shards.py", "batching/conversation.py", "adapters/fused.py"]
)
def test_code_that_trains_is_in_the_digest_of_a_run(file: str) -> None:
    assert Path("components", file) in _trained()


@pytest.mark.parametrize("file", ["evaluation/inference/cache.py", "model/vision_tower.py", "images/decoding.py"])
def test_code_that_answers_is_in_the_digest_of_answers(file: str) -> None:
    answered = closure("components.evaluation.inference.assistant", "components.evaluation.inference.answering")
    assert Path("components", file) in answered


def test_an_edit_changes_the_digest_and_a_neutral_module_does_not(tmp_path: Path, monkeypatch: Any) -> None:
    room = tmp_path / "components"
    room.mkdir()
    for name, text in {
        "__init__": "",
        "a": "def f():\n    from components import b\n",
        "b": "from components.progress import Bar\nB = 1\n",
        "progress": "import components.hidden\n",
        "hidden": "H = 1\n",
    }.items():
        (room / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    imports.imported.cache_clear()
    try:
        assert [path.name for path in closure("components.a")] == ["a.py", "b.py"]
        before = code_digest("components.a")
        (room / "hidden.py").write_text("H = 2\n", encoding="utf-8")
        assert code_digest("components.a") == before
        (room / "b.py").write_text("B = 2\n", encoding="utf-8")
        assert code_digest("components.a") != before
    finally:
        imports.imported.cache_clear()


def test_imports_for_type_checkers_and_relative_ones() -> None:
    tree = ast.parse("from . import x\nfrom .y import z\nif TYPE_CHECKING:\n    import components.never\n")
    assert set(imports._names(tree, "components.adapters")) == {
        "components.adapters",
        "components.adapters.x",
        "components.adapters.y",
        "components.adapters.y.z",
    }


def _trained() -> list[Path]:
    return closure("components.training.loop")
