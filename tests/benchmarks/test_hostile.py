import json
import os
import random
import subprocess
import sys

import pytest

from benchmarks import hostile


def test_quick_run_of_the_inputs_finds_nothing(tmp_path, capsys):
    output = tmp_path / "hostile.json"
    parts = ["images", "archives", "settings", "JSON files", "kills of fresh_folder"]
    assert hostile.main(["--quick", "--output", str(output), "--parts", *parts]) == 0, capsys.readouterr().out
    found = json.loads(output.read_text())["parts"]
    assert [(one["name"], one["tried"] == one["wanted"] > 0) for one in found] == [(name, True) for name in parts]


def test_other_exceptions_and_long_messages_are_failures():
    part = hostile.Part("x", 5)
    hostile.try_inputs(part, [b"seed"], lambda data: 1 / 0, 10, random.Random(1))
    assert (part.tried, part.failed, part.refused) == (5, 5, 0)
    assert "ZeroDivisionError" in part.failures[0]


def test_time_limit_stops_a_part_and_the_count_says_so():
    part = hostile.Part("x", 5)
    hostile.try_inputs(part, [b"seed"], lambda data: None, 0, random.Random(1))
    assert part.tried == 0


@pytest.mark.slow
def test_quick_run_of_the_kills_finds_nothing(tmp_path):
    """In a process of its own: it forks, and changes folder and environment."""
    output = tmp_path / "hostile.json"
    parts = ["kills of promote", "kills of register", "promotions at once"]
    command = [sys.executable, "-m", "benchmarks.hostile", "--quick", "--output", str(output), "--parts", *parts]
    done = subprocess.run(command, cwd=hostile.ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(output.read_text())["parts"]
    assert [(one["name"], one["tried"] == one["wanted"] > 0) for one in found] == [(name, True) for name in parts]


def test_a_run_that_is_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    output, chance = tmp_path / "hostile.json", iter([0] * 70)
    words = ["--quick", "--output", str(output), "--parts", "JSON files"]

    def read(*_):
        if next(chance, None) is None:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(hostile, "read_json", read)
        with pytest.raises(KeyboardInterrupt):
            hostile.main(words)
    assert json.loads(output.read_text())["parts"][0]["tried"] == 70
    assert hostile.main([*words, "--more"]) == 0
    assert json.loads(output.read_text())["parts"][0]["tried"] == 200


@pytest.mark.slow
def test_changed_files_variables_and_words_end_in_a_result_or_one_line(tmp_path, capsys):
    output, before = tmp_path / "hostile.json", dict(os.environ)
    assert hostile.main(["--quick", "--output", str(output), "--parts", *hostile.CHANGES]) == 0, capsys.readouterr().out
    assert [one["failed"] for one in json.loads(output.read_text())["parts"]] == [0, 0, 0]
    assert dict(os.environ) == before
