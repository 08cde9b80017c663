"""Damaged inputs, made from sound ones: no crash, no hang, and every record kept or named."""

from __future__ import annotations

import json
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.errors import UserError
from tests.prepare.test_source import check_accounts
from tests.raw import RAW, data_settings, prepared

HOSTILE: list[bytes] = [
    b"null",
    b"[]",
    b"{}",
    b"-1",
    b"1e999",
    b"9" * 5000,
    b'"\\ud800"',
    b'"../../x"',
    b"[" * 2000,
    b"\0",
    b'"',
    b",,",
    b"\xff\xfe",
    b"<image>",
]
VALUES: list[Any] = [
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    " ",
    "<image><image>",
    "\ud800",
    [],
    [[]],
    {},
    {"a": 1},
    "../x",
]
LIMIT_S = 60.0  # one case takes milliseconds; a loaded machine may take longer, a hang takes for ever


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that promises a huge picture."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = b"IDAT" + zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in (header, body)
    )


def bytes_damaged(data: bytes, chance: random.Random) -> bytes:
    at, length = chance.randrange(len(data) + 1), chance.choice([1, 2, 9, 100])
    return chance.choice(
        [
            data[:at],
            data[:at] + chance.randbytes(length) + data[at + length :],
            data[: at + length] + data[at:],
            data[:at] + data[at + length :],
            data[:at] + chance.choice(HOSTILE) + data[at:],
            b"\xef\xbb\xbf" + data,
            b"",
        ]
    )


def json_damaged(data: bytes, chance: random.Random) -> bytes:
    """One value of the wrong type or size, two keys swapped, one gone; perhaps printed over several lines."""
    text = data.decode()
    lines = [text] if text.lstrip().startswith(("[", "{\n")) or "\n" not in text.strip() else text.splitlines()
    at = chance.randrange(len(lines))
    try:
        tree = json.loads(lines[at])
    except ValueError:
        return bytes_damaged(data, chance)
    places = list[tuple[Any, Any]]()

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    if places:
        node, key = chance.choice(places)
        action = chance.randrange(3)
        if action == 0:
            node[key] = chance.choice(VALUES)
        elif action == 1 and isinstance(node, dict):
            other = chance.choice(list(node))
            node[key], node[other] = node[other], node[key]
        else:
            del node[key]
    lines[at] = json.dumps(tree, indent=chance.choice([None, None, 4]))
    return "\n".join(lines).encode()


def image_damaged(path: Path, data: bytes, chance: random.Random) -> None:
    kind = chance.randrange(5)
    if kind == 0:
        path.unlink()
        path.symlink_to(chance.choice(["/etc/passwd", "/dev/zero", "/none", path.parent]))
    else:
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
        path.write_bytes(
            chance.choice([bytes_damaged(data, chance), pointer, bomb(2**31 - 1, 2**31 - 1), bomb(90, 90)])
        )


def damage(path: Path, data: bytes, chance: random.Random) -> None:
    if path.suffix == ".png":
        image_damaged(path, data, chance)
        return
    ways: list[Callable[[bytes, random.Random], bytes]] = [bytes_damaged]
    if path.suffix in (".json", ".jsonl"):
        ways.append(json_damaged)
    path.write_bytes(chance.choice(ways)(data, chance))


def run(kind: str, root: Path, cases: int) -> Counter[str]:
    chance = random.Random(kind)
    spec = RAW[kind](root / "raw", 4)
    originals = {path: path.read_bytes() for path in sorted((root / "raw").rglob("*")) if path.is_file()}
    outcomes = Counter[str]()
    for _ in range(cases):
        path = chance.choice(list(originals))
        damage(path, originals[path], chance)
        started = time.monotonic()
        line = ""
        try:
            manifest = prepared("mine", spec, data_settings(), root / "out")
            check_accounts(root / "out", manifest)
            outcomes["prepared"] += 1
            outcomes.update(manifest["records"]["reasons"].keys())
        except UserError as error:
            line = str(error)
            outcomes["refused"] += 1
        assert "\n" not in line
        assert time.monotonic() - started < LIMIT_S
        path.unlink(missing_ok=True)
        path.write_bytes(originals[path])
    assert outcomes["prepared"] + outcomes["refused"] == cases
    return outcomes


@pytest.mark.parametrize("kind", sorted(RAW))
def test_damaged_inputs_are_accounted_for(tmp_path: Path, kind: str) -> None:
    outcomes = run(kind, tmp_path, 30)
    assert outcomes["prepared"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(RAW))
def test_thousands_of_damaged_inputs_are_accounted_for(tmp_path: Path, kind: str) -> None:
    """350 of each of the six kinds of source: 2,100."""
    outcomes = run(kind, tmp_path, 350)
    assert outcomes["prepared"] > 50
    assert outcomes["refused"]
