"""What the names in a folder are like, seen once: a name unlike all of them need not be looked up."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from components.images.endings import IN_ORDER, written_ending

_HELD = 4096  # folders; a listing holds no names


@dataclass(frozen=True)
class Listing:
    names: bool  # whether there are any
    endings: frozenset[str]  # of images, as they are written; empty for others
    beyond_ascii: bool  # in any encoding
    old_encodings: bool  # names that are no UTF-8
    backslashes: bool

    def may_hold(self, name: bytes) -> bool:
        return (
            self.names
            and (self.beyond_ascii or name.isascii())
            and (self.old_encodings or _is_utf8(name))
            and (self.backslashes or b"\\" not in name)
        )


NOTHING = Listing(False, frozenset(), False, False, False)
ANYTHING = Listing(True, frozenset(IN_ORDER), True, True, True)


def listing(names: Iterable[bytes]) -> Listing:
    any_names = beyond_ascii = old_encodings = backslashes = False
    endings = set[str]()
    for name in names:
        any_names = True
        endings.add(written_ending(name))
        if not name.isascii():
            beyond_ascii = True
            old_encodings = old_encodings or not _is_utf8(name)
        backslashes = backslashes or b"\\" in name
    return Listing(any_names, frozenset(endings), beyond_ascii, old_encodings, backslashes)


class Listings:
    """Of the folders below one, each made when it is first asked for."""

    def __init__(self, root: Path):
        self._root = os.fsencode(root)
        self._held = OrderedDict[bytes, Listing]()

    def of(self, folder: bytes) -> Listing:
        """`folder` is a path below the root, empty for the root itself."""
        if folder not in self._held:
            self._held[folder] = self._made(folder)
            if len(self._held) > _HELD:
                self._held.popitem(last=False)
        return self._held[folder]

    def may_hold(self, path: bytes) -> bool:
        folder, _, name = path.rpartition(b"/")
        return self.of(folder).may_hold(name)

    def _made(self, folder: bytes) -> Listing:
        if not folder.isascii() and not self.may_hold(folder):
            return NOTHING
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:  # noqa: PTH118 - bytes
                return listing(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return NOTHING
        except OSError:  # its files may be read all the same
            return ANYTHING


def _is_utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
