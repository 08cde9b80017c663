"""Where a run came from: user, commit, dvc.lock, versions of what it ran on."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from components.digests import file_digest
from components.tracking import store

PACKAGES = ("torch", "transformers", "peft", "deepspeed", "ray", "mlflow", "dvc")


def origin(root: Path = Path()) -> dict[str, str]:
    """Tags that say where a run came from: user, commit, dvc.lock, versions."""
    tags = {"mlflow.user": store.who(), "lea.python": platform.python_version()}
    commit = _git_commit(root)
    if commit:
        tags["mlflow.source.git.commit"] = commit
    lock_file = root / "dvc.lock"
    if lock_file.is_file():
        tags["lea.dvc_lock"] = file_digest(lock_file)
    if os.environ.get("DVC_EXP_NAME"):
        tags["lea.experiment"] = os.environ["DVC_EXP_NAME"]
    for package in PACKAGES:
        try:
            tags[f"lea.{package}"] = version(package)
        except PackageNotFoundError:  # a serving machine has no DVC
            continue
    return tags


def _git_commit(root: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # a container without git
        return None
    return done.stdout.strip() if done.returncode == 0 else None
