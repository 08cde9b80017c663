"""Where things live that outlast a DVC run: run state, the tracking store, copies of bases."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The absolute folder of run state: LEA_HOME, or `.lea` in the repository.

    DVC runs queued experiments in temporary copies and names the true repository in DVC_ROOT,
    so that all of them share checkpoints and one registry.
    """
    chosen = os.environ.get("LEA_HOME")
    folder = Path(chosen) if chosen else Path(os.environ.get("DVC_ROOT", ".")) / ".lea"
    return folder.expanduser().resolve()
