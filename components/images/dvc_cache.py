"""Where DVC keeps the contents that its links lead to (`dvc config cache.type symlink`)."""

from __future__ import annotations

import configparser
import os
from functools import lru_cache
from pathlib import Path


def is_cached(target: str) -> bool:
    """Whether a resolved path lies in a cache of the repository around the working folder, where DVC runs stages.

    A `.dvc` beside the images themselves is not asked: whoever made them could name any folder in it.
    """
    return any(target.startswith(f"{folder}{os.sep}") for folder in _caches(Path.cwd()))


@lru_cache(maxsize=8)  # asked for every link
def _caches(working: Path) -> tuple[str, ...]:
    root = next((folder for folder in (working, *working.parents) if (folder / ".dvc").is_dir()), None)
    if root is None:
        return ()
    found = [root / ".dvc" / "cache"]
    for config in (*_shared_configs(), root / ".dvc" / "config", root / ".dvc" / "config.local"):
        folder = _cache_of(config)
        if folder is not None:
            found.append(folder)
    return tuple(os.path.realpath(folder) for folder in found)


def _shared_configs() -> list[Path]:
    """DVC's configuration of the user and of the machine."""
    user = os.environ.get("DVC_GLOBAL_CONFIG_DIR") or str(Path.home() / ".config" / "dvc")
    machine = os.environ.get("DVC_SYSTEM_CONFIG_DIR") or "/etc/xdg/dvc"
    return [Path(machine, "config"), Path(user, "config")]


def _cache_of(config: Path) -> Path | None:
    """The setting cache.dir of one file; a relative one counts from the file's folder."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(config, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError, OSError):
        return None  # DVC itself names what is wrong with it
    folder = parser.get("cache", "dir", fallback="").strip()
    try:
        return (config.parent / Path(folder).expanduser()).resolve() if folder else None
    except (RuntimeError, ValueError, OSError):  # ~ of nobody, a zero byte, links in a circle
        return None
