"""The commands of the documentation, checked without running them: verbs, targets, stages, settings exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools.markdown import ROOT

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "docs/**/*.md", "infra/**/*.md")
GENERATED = re.compile(r"<!-- lines -->.*?<!-- end of lines -->", re.DOTALL)  # messages, not commands to type
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:lea|make|dvc repro|dvc exp run|python -m) [^`]+)`")
OURS = ("lea", "make", "dvc", "python", "pytest")
OTHERS = (
    "git",
    "mkdir",
    "cp",
    "cd",
    "source",
    "export",
    "pip",
    "mlflow",
    "aws",
    "ruff",
    "pyright",
    "lint-imports",
    "ray",
    "docker",
    "kubectl",
    "sbatch",
    "sed",
)
_SEPARATORS = {"&&", "||", ";", "|"}


@dataclass(frozen=True)
class Command:
    page: Path
    words: tuple[str, ...]
    whole: bool  # of a block, to be typed as it stands; else named within a sentence


def pages() -> list[Path]:
    found = {path for pattern in PAGES for path in ROOT.glob(pattern)}
    return sorted(found)


def commands(page: Path) -> Iterator[Command]:
    text = GENERATED.sub("", page.read_text(encoding="utf-8"))
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            yield from (Command(page, words, True) for words in split(line))
    for inline in INLINE.findall(BLOCK.sub("", text)):
        yield from (Command(page, words, False) for words in split(inline.replace("\n", " ")))


def split(line: str) -> Iterator[tuple[str, ...]]:
    """The commands of a line, without comments and without variables set before them."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in _SEPARATORS:
            words.append(word)
            continue
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words:
            yield tuple(words)
        words = []


def problem(command: Command) -> str | None:
    """What is wrong with a command, or None."""
    name, *words = command.words
    missing = [word for word in words if word.startswith("infra/") and not (ROOT / word).exists()]
    if missing:
        return f"{missing[0]} is not there"
    if name in OTHERS:
        return None
    if name not in OURS:
        return f"{name} is no command that the documentation may use unchecked"
    checks = {"lea": _lea, "make": _make, "dvc": _dvc, "python": _python, "pytest": _pytest}
    return checks[name](words, command.whole)


def _lea(words: list[str], whole: bool) -> str | None:
    from pipelines.cli import VERBS, parser

    if words[0] not in VERBS and not words[0].startswith("-"):
        return f"lea has no verb {words[0]}"
    if words[0] in ("profile", "plan") and len(words) > 1 and words[1].islower() and words[1][0].isalpha():
        profiles = {path.stem for path in (ROOT / "pipelines/profiles").glob("*.yaml")}
        if words[1] not in profiles:
            return f"there is no profile {words[1]}"
    if not whole:
        return None
    try:
        parser().parse_args(words)
    except SystemExit as end:
        return f"lea refuses it (exit {end.code})" if end.code else None
    return None


def _make(words: list[str], whole: bool) -> str | None:
    missing = [word for word in words if "=" not in word and not word.startswith("-") and word not in targets()]
    return f"the Makefile has no target {missing[0]}" if missing else None


@cache
def targets() -> frozenset[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = {name for line in re.findall(r"^([a-z][\w -]*):(?!=)", text, re.MULTILINE) for name in line.split()}
    tables = re.search(r"^TABLES := (.*)$", text, re.MULTILINE)
    return frozenset(names | set(tables[1].split() if tables else []))


def _dvc(words: list[str], whole: bool) -> str | None:
    if words[0] == "repro":
        stages = set(_yaml("dvc.yaml")["stages"])
        named = [word for word in words[1:] if not word.startswith("-") and not word.endswith("dvc.yaml")]
        unknown = [word for word in named if word.partition("@")[0] not in stages]
        if unknown:
            return f"dvc.yaml has no stage {unknown[0]}"
    for key, value in _overrides(words):
        if not _known(key):
            return f"params.yaml has no setting {key} ({value})"
    return _parsed(words) if whole else None


def _overrides(words: list[str]) -> Iterator[tuple[str, str]]:
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word in ("-S", "--set-param") and "=" in after:
            key, _, value = after.partition("=")
            yield key, value


def _known(key: str) -> bool:
    place: Any = _yaml("params.yaml")
    for part in key.split("."):
        if not isinstance(place, dict) or part not in place:
            return False
        place = place[part]
    return True


@cache
def _yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def _parsed(words: list[str]) -> str | None:
    from dvc.cli import DvcParserError
    from dvc.cli.parser import get_main_parser

    try:
        get_main_parser().parse_args(words)
    except (SystemExit, DvcParserError) as error:
        return f"dvc refuses it: {error!r}"
    return None


def _python(words: list[str], whole: bool) -> str | None:
    if words[:1] != ["-m"]:
        return (
            None if words and (ROOT / words[0]).is_file() else f"python {' '.join(words)} names no file of the project"
        )
    place = ROOT.joinpath(*words[1].rstrip(".").split("."))
    known = place.with_suffix(".py").is_file() or place.is_dir()
    return None if known or words[1] in ("build", "venv", "pip", "zensical") else f"there is no module {words[1]}"


def _pytest(words: list[str], whole: bool) -> str | None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "-m" and after and f'"{after}: ' not in text:
            return f"pytest has no marker {after}"
    return None
