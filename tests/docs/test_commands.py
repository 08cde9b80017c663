"""Every command of the documentation exists: verbs and options of `lea`, targets, stages, settings, modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.commands import Command, commands, pages, problem, split
from tools.markdown import ROOT


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_a_page_exist(page: Path) -> None:
    wrong = {" ".join(command.words): found for command in commands(page) if (found := problem(command))}
    assert not wrong


def test_commands_are_found() -> None:
    whole = [command for page in pages() for command in commands(page) if command.whole]
    assert len(whole) > 50
    assert {command.words[0] for command in whole} >= {"lea", "make", "dvc", "git"}


@pytest.mark.parametrize(
    "line",
    [
        "lea fly",
        "lea score --answers a",
        "lea profile nowhere",
        "make tea",
        "dvc repro nothing",
        "dvc exp run -S adapter.size=3",
        "dvc exp rum",
        "python -m benchmarks.nothing",
        "pytest -m quick",
        "curl example.org",
    ],
)
def test_wrong_command_is_noticed(line: str) -> None:
    (words,) = split(line)
    assert problem(Command(Path("page.md"), words, True))


def test_a_line_is_split_into_commands() -> None:
    line = "RAY_ADDRESS=head:6379 lea tune && dvc repro; dvc exp show  # twice"
    assert list(split(line)) == [("lea", "tune"), ("dvc", "repro"), ("dvc", "exp", "show")]
