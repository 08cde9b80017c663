"""Trials are known by numbers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

from components.search.follow import Follow, number_of
from components.search.trial import Setting


def test_trials_are_numbered_as_they_were_drawn_whichever_is_up_first(tmp_path: Path) -> None:
    first, second, third = (SimpleNamespace(trial_id=name) for name in ("a", "b", "c"))
    follow = Follow(Setting("", "", {}, []), {}, "", tmp_path)
    follow.on_trial_start(0, [first, second], second)
    follow.on_trial_start(0, [first, second], first)
    follow.on_trial_start(0, [third, second, first], third)  # another order after a search went on
    assert [number_of(tmp_path, trial.trial_id) for trial in (first, second, third)] == [1, 2, 3]
