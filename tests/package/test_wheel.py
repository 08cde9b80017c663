"""The wheel: one public name, adapters with torch and peft alone, loaded by a process that imports only the package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tools.markdown import ROOT

TRAIN = """
import torch
from peft import get_peft_model
from torch import nn
from local_enhanced_adapters import DualLoraConfig

torch.manual_seed(0)
base = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
torch.save(base.state_dict(), "base.pt")
model = get_peft_model(base, DualLoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["0", "2"]))
optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 0.05)
x, y = torch.randn(32, 6), torch.randn(32, 3)
losses = []
for _ in range(30):
    loss = (model(x) - y).square().mean()
    optimiser.zero_grad(); loss.backward(); optimiser.step()
    losses.append(loss.item())
assert losses[-1] < 0.8 * losses[0], losses
model.save_pretrained("adapter")
torch.save((x, model(x).detach()), "seen.pt")
"""
LOAD = """
import sys
import torch
from torch import nn
import local_enhanced_adapters
from peft import PeftModel

base = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
base.load_state_dict(torch.load("base.pt"))
x, expected = torch.load("seen.pt")
torch.testing.assert_close(PeftModel.from_pretrained(base, "adapter")(x), expected)
vce = local_enhanced_adapters.VisualCueEnhancement(16, 2, num_heads=4)
assert vce([torch.randn(1, 9, 16)] * 2, (3, 3)).shape == (1, 9, 16)
group = {"input_ids": [[1, 2, 3], [1, 2, 4]], "labels": [[-100, -100, 3]] * 2}
batch = local_enhanced_adapters.tree.TreeCollator()([group])
assert batch["attention_mask"].shape == (1, 1, 5, 5)
foreign = {"components", "pipelines", "ray", "dvc", "mlflow", "deepspeed", "pydantic"} & set(sys.modules)
assert not foreign, foreign
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no build folder is left in the repository."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("components", "pipelines", "local_enhanced_adapters"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", str(out), str(source)], check=True, capture_output=True, timeout=300)
    (found,) = out.glob("*.whl")
    return found


def test_wheel_claims_its_own_names_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
        assert tops == {"local_enhanced_adapters", "_local_enhanced_adapters"}
        imports = re.compile(r"^(from|import) (components|pipelines)\b", re.MULTILINE)
        texts = {name: archive.read(name).decode() for name in names if name.endswith(".py")}
    assert [name for name, text in texts.items() if imports.search(text)] == []
    assert "_local_enhanced_adapters/pipelines/profiles/tiny.yaml" in names


@pytest.mark.slow
def test_adapters_of_the_wheel_need_torch_and_peft_alone(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "bare", packages("torch", "peft"), wheel)
    run(python, TRAIN, tmp_path)
    (tmp_path / "components").mkdir()  # a user's own folder, which must not stand in for ours
    (tmp_path / "components/__init__.py").write_text("raise RuntimeError('the user's own')")
    run(python, LOAD, tmp_path)
    lea = python.parent / "lea"
    listed = subprocess.run([lea, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert listed.returncode == 0
    assert "score" in listed.stdout
    refused = subprocess.run([lea, "plan"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert refused.returncode == 2
    assert re.fullmatch(r"error: \w+ is not installed; run: pip install .*\[pipeline\]'\n", refused.stderr)


@pytest.mark.slow
def test_command_of_the_wheel_works_with_all_packages(wheel: Path, tmp_path: Path) -> None:
    import torch

    others = Path(torch.__file__).parents[1]
    entries = [
        path for path in others.iterdir() if not re.match(r"(__editable__|_?local_enhanced|aa_own|.*\.pth)", path.name)
    ]
    python = environment(tmp_path / "full", entries, wheel)
    shutil.copy(ROOT / "params.yaml", tmp_path / "params.yaml")
    done = subprocess.run(
        [python.parent / "lea", "plan", "--json"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def environment(folder: Path, entries: list[Path], wheel: Path) -> Path:
    """A virtual environment that holds links to these files of site-packages, and the wheel."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for entry in entries:
        if not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True, timeout=300)
    return python


def packages(*names: str) -> list[Path]:
    """The entries of site-packages that these distributions and all that they need consist of."""
    waiting, seen, entries = list(names), set[str](), set[Path]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:  # needed on other systems
            continue
        waiting += [re.split(r"[^\w.-]", need)[0] for need in found.requires or [] if "extra ==" not in need]
        entries |= set(_entries(found.files or [], Path(str(found.locate_file("")))))
    return sorted(entries)


def _entries(files: list, site: Path) -> Iterator[Path]:
    for file in files:
        if file.parts[0] != ".." and (site / file.parts[0]).exists():
            yield site / file.parts[0]


def run(python: Path, program: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", program], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
