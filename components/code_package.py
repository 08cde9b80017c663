"""Our code as it goes to the nodes of a cluster: the packages' own files and nothing else of the workspace."""

from __future__ import annotations

import shutil
from pathlib import Path

import components
from components.digests import digest, file_digest
from components.files import fresh_folder
from components.imports import ABOVE, PROJECT

ENDINGS = (".py", ".yaml", ".html", ".css", ".j2", ".js")  # of pyproject.toml's package-data
TOP = Path(components.__file__).parent.parent  # the folder with components/ and pipelines/


def package_files() -> dict[str, Path]:
    """The files that travel, by their place in the package: code and what it reads beside it, no hidden file."""
    root, names = (TOP.parent, (TOP.name,)) if ABOVE else (TOP, PROJECT)
    found = {}
    for name in names:
        for path in sorted((root / name).rglob("*")):
            place = path.relative_to(root)
            hidden = any(part.startswith((".", "__pycache__")) for part in place.parts)
            if path.suffix in ENDINGS and path.is_file() and not path.is_symlink() and not hidden:
                found[place.as_posix()] = path
    return found


def pack(folder: Path) -> tuple[list[Path], int]:
    """Copy the code to `folder`/lea-code-DIGEST; the top packages there, for `py_modules`, and their bytes."""
    files = package_files()
    name = digest([[place, file_digest(path)] for place, path in files.items()])[:16]
    target = folder / f"lea-code-{name}"
    if not target.exists():
        with fresh_folder(target) as aside:
            for place, path in files.items():
                (aside / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, aside / place)
    tops = sorted({target / place.split("/")[0] for place in files})
    return tops, sum(path.stat().st_size for path in files.values())
