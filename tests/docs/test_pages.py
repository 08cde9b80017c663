"""The documentation agrees with what it is generated from, has no dead link, and builds strictly."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from peft import PeftModel

from tests.models import tiny_pieces
from tools import errors_page, layers, results_page
from tools.markdown import ROOT, replaced

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def test_results_page_is_what_the_benchmarks_wrote() -> None:
    assert results_page.PAGE.read_text("utf-8") == results_page.page(), "run: python -m tools.results_page"
    gpu = results_page.GPU_PAGE.read_text("utf-8")
    assert gpu == results_page.gpu_page(gpu), "run: python -m tools.results_page"
    readme = results_page.README.read_text("utf-8")
    assert readme == results_page.readme(readme), "run: python -m tools.results_page"


def test_troubleshooting_holds_every_message_of_the_code() -> None:
    text = errors_page.PAGE.read_text("utf-8")
    assert text == errors_page.page(text), "run: python -m tools.errors_page"


def test_picture_of_the_layers_is_the_contract() -> None:
    text = layers.PAGE.read_text("utf-8")
    assert text == layers.page(text), "run: python -m tools.layers"


def test_messages_keep_what_is_fixed_and_name_what_is_filled_in(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'raise UserError(f"{path} has {len(rows)} rows; " "run: dvc repro")\nraise UserError(str(error))'
    )
    assert list(errors_page.messages(tmp_path / "a.py")) == ["‹path› has ‹rows› rows; run: dvc repro"]


def test_generated_block_needs_its_comments() -> None:
    assert (
        replaced("a\n<!-- x -->\nold\n<!-- end of x -->\nb", "x", "new") == "a\n<!-- x -->\nnew\n<!-- end of x -->\nb"
    )
    with pytest.raises(ValueError, match="missing"):
        replaced("a", "x", "new")


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_of_a_page_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in LINK.findall(text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_pictures_are_small_and_look_right_in_the_dark() -> None:
    for picture in (ROOT / "docs/images").iterdir():
        assert picture.stat().st_size < 150_000
        assert picture.suffix != ".svg" or "prefers-color-scheme: dark" in picture.read_text("utf-8")


def test_site_builds_strictly(tmp_path: Path) -> None:
    if importlib.util.find_spec("zensical") is None:
        pytest.skip("zensical is not installed: make docs installs it")
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    settings = (ROOT / "zensical.toml").read_text("utf-8").replace('["."]', f'["{ROOT}"]')
    (tmp_path / "zensical.toml").write_text(settings)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "griffe" not in built.stderr
    assert "DualLoraConfig" in (tmp_path / "site/reference/index.html").read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_a_page_compiles(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        compile(block, str(page), "exec")


def test_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert len(block.splitlines()) <= 12
    _, language, _, _ = tiny_pieces()
    language.save_pretrained(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(block.replace("HuggingFaceTB/SmolLM2-135M", str(tmp_path / "base")), names)
    assert isinstance(names["model"], PeftModel)
    assert (tmp_path / "adapter/adapter_model.safetensors").is_file()
