"""Files, variables and words that a user can write, changed at random: what reads them ends well or in one line."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import cli, stage

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 3.5, 1e308, 10**30, "", "x", "\u00e9\u4e2d", "a\nb", "../..", "0" * 64),
    *([], {}, [[]], [None], {"a": 1}, [1, "x", {}]),
)
TEXTS = (  # no folder outside the workspace that could be written to
    *("", " ", ".", "..", "~", "~nosuchuser", "/dev/null", "/proc/version/x", "a\nb", "a b", "\u00e9", "%2F", "?"),
    *(
        "0",
        "-1",
        "1e999",
        "nan",
        "127.0.0.1:1",
        "a..b:1",
        "http://",
        "http://[::1",
        "http://x:y@127.0.0.1:1/z",
        "s3://x/y",
    ),
    *("models:/", "models:/x@y", "models:/lea/0", "x" * 5000, "[", "{", "'", "--", "-", "\\", "$HOME", ";", "*", "#"),
)
VARIABLES = (
    *("LEA_HOME", "LEA_PREPARED", "LEA_BASE", "LEA_VERBOSE", "MLFLOW_TRACKING_URI", "OPENAI_BASE_URL", "RAY_ADDRESS"),
    *("OPENAI_API_KEY", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_GLOBAL_CONFIG_DIR", "MLFLOW_TRACKING_USERNAME"),
)


@dataclass(frozen=True)
class Case:
    """A file or a set of variables as it stands when it is right, and what reads it."""

    path: Path
    read: Callable[[], object]


class Fault(Exception):
    """A command ended in something else than a result or one line."""

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__(f"{where}: {type(error).__name__}: {error}")


def mutated(data: bytes, chance: random.Random) -> bytes:
    """One to four of: bytes changed, a part cut out, a part doubled, the end cut off, a number made huge."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(changed) + 1), chance.randint(1, 16)
        kind = chance.randrange(5)
        if kind == 0:
            changed[at : at + length] = chance.randbytes(length)
        elif kind == 1:
            del changed[at : at + length]
        elif kind == 2:
            changed[at:at] = changed[at : at + length]
        elif kind == 3:
            del changed[at:]
        else:
            changed[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4)))
    return bytes(changed)


def altered(tree: Any, chance: random.Random) -> Any:
    """The tree with one value somewhere in it replaced, or a key removed."""
    tree = copy.deepcopy(tree)
    if not isinstance(tree, dict | list) or not tree or chance.random() < 0.1:
        return chance.choice(ODD)
    within: Any = tree
    while True:
        place = chance.choice(list(within)) if isinstance(within, dict) else chance.randrange(len(within))
        inner = within[place]
        if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
            within = inner
            continue
        if chance.random() < 0.25:
            del within[place]
        else:
            within[place] = chance.choice(ODD)
        return tree


def changed(content: bytes, chance: random.Random) -> bytes:
    """JSON (or lines of it) with another value somewhere; or, of any file, other bytes."""
    if chance.random() < 0.4:
        return mutated(content, chance)
    try:
        return json.dumps(altered(json.loads(content), chance)).encode()
    except ValueError:
        pass
    lines = content.splitlines()
    try:
        number = chance.randrange(len(lines))
        lines[number] = json.dumps(altered(json.loads(lines[number]), chance)).encode()
        return b"\n".join(lines) + b"\n"
    except ValueError:
        return mutated(content, chance)


def refused(work: Callable[[], object]) -> bool:
    """Do what a command does. False where it ended well, True where it ended in one line; else AssertionError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = stage.guarded(work)
    except SystemExit as end:  # argparse
        code = end.code
        if code == 0:  # --help
            return False
    line = said.getvalue()
    assert code in (0, stage.MISTAKE), f"exit code {code}: {line[-300:]}"
    if code == 0:
        return False
    last = [one for one in line.splitlines() if one.startswith("error: ")]
    assert len(last) == 1, f"not one line: {line[:300]!r}"
    return True


def one_try(name: str, cases: list[Case], chance: random.Random) -> Callable[[], bool]:
    """One change and the command that meets it."""
    if name == "files of the workspace":
        case = chance.choice(cases)
        sound = case.path.read_bytes()
        damaged = changed(sound, chance)

        def read() -> bool:
            case.path.write_bytes(damaged)
            try:
                return refused(case.read)
            except Exception as error:
                raise Fault(str(case.path), error) from error
            finally:
                case.path.write_bytes(sound)

        return read
    if name == "variables":
        values = {one: chance.choice(TEXTS) for one in chance.sample(VARIABLES, 2)}
        case = chance.choice(cases)
        return lambda: with_variables(values, case.read)
    words = arguments([str(case.path) for case in cases], chance)
    return lambda: refused_words(words)


def with_variables(values: dict[str, str], read: Callable[[], object]) -> bool:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        return refused(read)
    except Exception as error:
        raise Fault(str(values), error) from error
    finally:
        os.environ.clear()
        os.environ.update(before)


def arguments(files: list[str], chance: random.Random) -> list[str]:
    """A verb of `lea` with some of its options, most of them with words that it does not expect."""
    verbs = next(action for action in cli.parser()._actions if isinstance(action.choices, dict))
    verb = chance.choice(list(cli.VERBS))
    words = [verb]
    for action in verbs.choices[verb]._actions:  # type: ignore[index, union-attr]
        if chance.random() < 0.5:
            continue
        known = [str(one) for one in (*(action.choices or ()), *files)]
        value = [chance.choice(known if chance.random() < 0.4 else TEXTS)] if action.nargs != 0 else []
        words += [*action.option_strings[:1], *value]
    return words if chance.random() < 0.8 else [*words, chance.choice(TEXTS)]


def refused_words(words: list[str]) -> bool:
    def work() -> None:
        given = cli.parser().parse_args(words)
        cli.VERBS[given.verb].run(given)

    try:
        return refused(work)
    except Exception as error:
        raise Fault(f"lea {words}", error) from error
