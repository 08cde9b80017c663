from __future__ import annotations

from pathlib import Path

import pytest

from components.errors import UserError
from components.training.journal import METRICS_FILE, TIMINGS_FILE, read_journal
from components.training.stage import write_log

SOUND = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n'


@pytest.mark.parametrize("line", ["7", "null", "[1]", "{}", '{"step": "1"}', '"step"', "{", "[" * 100_000])
def test_line_that_is_no_step_s_is_damage(line: str, tmp_path: Path) -> None:
    path = tmp_path / METRICS_FILE
    path.write_text(SOUND + line + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged \(.+\); remove"):
        read_journal(path)


@pytest.mark.parametrize(
    "timings", ["", '{"step": 1}\n', '{"step": 1}\n{"step": 3}\n', '{"step": 1, "s": 1}\n{"step": 2}\n']
)
def test_journals_that_do_not_belong_together_are_damage(timings: str, tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text(SOUND)
    (tmp_path / TIMINGS_FILE).write_text(timings)
    with pytest.raises(UserError, match="is damaged"):
        write_log(tmp_path, tmp_path / "log.csv")
