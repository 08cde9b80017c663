"""Archives that are the same, byte for byte, whenever they hold the same files."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

_TAR_TIME = 946_684_800  # 2000-01-01, seconds
_ZIP_TIME = (2000, 1, 1, 0, 0, 0)

Files = Iterable[tuple[str, bytes]]  # (name in the archive, content)


def write_tar(target: Path, files: Files) -> None:
    with tarfile.open(target, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.mode = len(content), _TAR_TIME, 0o644
            archive.addfile(member, io.BytesIO(content))


def write_zip(target: Path, files: Files) -> None:
    """Stored, not deflated: images do not shrink."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files:
            member = zipfile.ZipInfo(name, _ZIP_TIME)
            member.create_system, member.external_attr = 3, 0o644 << 16
            archive.writestr(member, content)
