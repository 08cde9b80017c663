"""What a search shows of its trials while it runs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.tune.experiment import Trial

from components.search.follow import Follow, error_of, number_of
from components.search.result import LOST, why_lost
from components.search.trial import Setting


def test_reason_of_a_lost_trial_is_known_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = str(tmp_path / "session")  # a folder of the Ray that is up: there is none
    monkeypatch.setattr("ray.train._internal.storage._get_ray_train_session_dir", lambda: session)
    trial = Trial("trial", stub=True, storage=StorageContext(str(tmp_path), "tune", trial_dir_name="trial"))
    Path(str(trial.local_path)).mkdir(parents=True)
    assert error_of(trial) is None
    trial.handle_error(RayTaskError("trial", "a traceback", OSError("no space")))
    assert trial.get_pickled_error() is None
    assert why_lost(error_of(trial)) == "OSError: no space"
    trial.handle_error(RayActorError())
    assert why_lost(error_of(trial)) == LOST
    Path(str(trial.pickled_error_file)).write_bytes(b"cut off")
    assert why_lost(error_of(trial)).startswith("UnpicklingError")


def test_trials_are_numbered_as_they_were_drawn_whichever_is_up_first(tmp_path: Path) -> None:
    first, second, third = (SimpleNamespace(trial_id=name) for name in ("a", "b", "c"))
    follow = Follow(Setting("", "", {}, []), {}, "", tmp_path)
    follow.on_trial_start(0, [first, second], second)
    follow.on_trial_start(0, [first, second], first)
    follow.on_trial_start(0, [third, second, first], third)  # another order after a search went on
    assert [number_of(tmp_path, trial.trial_id) for trial in (first, second, third)] == [1, 2, 3]
