from pathlib import Path

import pytest

from components import imports


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    files = {
        "components/__init__.py": "",
        "components/top.py": "import json\nfrom components.room import low\n",
        "components/room/__init__.py": "",
        "components/room/low.py": "def work():\n    from components.lazy import value\n    return value\n",
        "components/lazy.py": "import components.top\nvalue = 1\n",
        "components/other.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    return tmp_path


def test_closure_follows_imports_in_functions_and_rings(packages: Path) -> None:
    names = [path.relative_to(packages).as_posix() for path in imports.source_files("components.top")]
    assert names == [
        "components/__init__.py",
        "components/lazy.py",
        "components/room/__init__.py",
        "components/room/low.py",
        "components/top.py",
    ]


def test_digest_changes_with_what_is_imported_alone(packages: Path) -> None:
    before = imports.source_digest("components.top")
    (packages / "components/other.py").write_text("changed = 1\n")
    assert imports.source_digest("components.top") == before
    (packages / "components/lazy.py").write_text("value = 2\n")
    assert imports.source_digest("components.top") != before


def test_evaluation_reads_scorers_and_image_decoding() -> None:
    names = {path.name for path in imports.source_files("components.evaluation.measuring")}
    assert {"images.py", "visual_cue.py", "cache.py", "mmbench.py", "collating.py"} <= names
