"""Every path of the workspace: what the stages write, and the home of what outlasts a DVC run.

The paths are relative to the root of the repository, where DVC runs each stage; dvc.yaml names the same ones.
"""

from __future__ import annotations

import os
from pathlib import Path

from components.errors import UserError

RAW = Path("data/raw")
PREPARED = Path("data/prepared")  # a folder for each source, with its MANIFEST
MANIFEST = "manifest.json"
SPLITS = Path("data/splits")
ASSIGNMENTS = SPLITS / "assignments.parquet"
SPLITS_SUMMARY = SPLITS / "summary.json"
BASE = Path("models/base")
BASE_FILES = Path("models/base_files.json")
TOKENIZER = BASE / "tokenizer.json"
PRETRAIN = Path("models/pretrain")
FINETUNE = Path("models/finetune")
LOG, VALIDATION = "log.csv", "validation.csv"  # of a stage that trains, in its folder
EVALUATION = Path("evaluation")
METRICS = EVALUATION / "metrics.json"
MEASURED = EVALUATION / "measured.json"  # what the figures belong to
ANSWERS = EVALUATION / "answers.parquet"
INSIGHT = EVALUATION / "insight"
REGISTRATION = Path("registration.json")
REPORT = Path("report")
TABLES = Path("tables")
TUNE = Path("tune")


def home() -> Path:
    """The absolute folder of run state: LEA_HOME, or `.lea` in the repository.

    DVC runs queued experiments in temporary copies and names the true repository in DVC_ROOT,
    so that all of them share checkpoints and one registry.
    """
    chosen = os.environ.get("LEA_HOME")
    if chosen and "://" in chosen:
        raise UserError(f"LEA_HOME={chosen}: is a URL, and must be a folder; LEA_STORAGE takes a URL for run state")
    folder = Path(chosen) if chosen else Path(os.environ.get("DVC_ROOT", ".")) / ".lea"
    try:
        return folder.expanduser().resolve()
    except (RuntimeError, ValueError, OSError) as error:  # ~ of nobody, a zero byte, links in a circle
        raise UserError(f"LEA_HOME={chosen}: is no folder: {str(error).lower()}; give an absolute path") from None


def local_place(place: str) -> str:
    """A relative folder that the settings name, found from a queued experiment's temporary copy too.

    Git does not know such a folder, so the copy lacks it; DVC_ROOT names the repository that has it.
    """
    there = Path(os.environ.get("DVC_ROOT", ".")) / place
    return str(there) if not Path(place).exists() and there.is_dir() else place
