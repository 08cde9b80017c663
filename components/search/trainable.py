"""A trial as Ray Tune sees it. Its process and its workers outlive it: the next trial takes them over."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import ray
from ray.tune import Trainable

from components.search.trial import Result, Setting, per_worker, reports
from components.training.warm import Group


class PointTrainable(Trainable):
    """One call of `step` is the way to the next validation. A trial that Tune stops is left where it paused."""

    def setup(self, config: dict[str, Any], setting: Setting) -> None:  # pyright: ignore
        self._setting = setting
        self._group = Group(per_worker(setting.default), ray.util.get_current_placement_group())
        self._begin(config)

    def step(self) -> Result:
        """The next validation; the last one is marked as such."""
        result = next(self._reports)
        if "failed" not in result and result["step"] < result["of"]:
            return result
        self._reports.close()
        return {**result, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._reports.close()
        self._begin(new_config)
        return True

    def cleanup(self) -> None:
        self._reports.close()
        self._group.close()

    def _begin(self, config: dict[str, Any]) -> None:
        self._reports: Generator[Result, None, None] = reports(config, self._setting, self._group)
