"""Mistakes on the command line: one line, the nearest word, and the help that lists what is accepted."""

from __future__ import annotations

import re

import pytest

from pipelines.cli import arguments_of


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predcit"], r"invalid choice: 'predcit' .*; did you mean predict\?; see: lea --help"),
        (["xyzzy"], r"invalid choice: 'xyzzy' \(choose from .*\); see: lea --help"),
        (["history", "--al"], r"error: lea history: unrecognized arguments: --al; see: lea history --help"),
    ],
)
def test_mistake_is_one_line_with_the_nearest_word(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments_of(words)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(said, error), error


def test_no_word_at_all_gets_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments_of([])
    shown = capsys.readouterr()
    assert not shown.out
    assert "lea [-h] VERB" in shown.err
    assert re.search(r"predict +\w", shown.err)
