from __future__ import annotations

import pytest

from components.params import Params
from components.search.search import searcher
from components.search.space import read_space
from components.search.trial import Setting


@pytest.mark.parametrize("kind", ["random", "grid"])
def test_no_more_trials_are_drawn_at_once_than_may_run(kind: str, params: Params) -> None:
    """Ray Tune's own limit does not reach the searcher that draws at random."""
    space = {"adapter.rank": {"choice": [2, 4, 8]}}
    tune = params.tune.model_copy(update={"search": kind, "space": space, "concurrent_trials": 1})
    changed = params.model_copy(update={"tune": tune})
    setting = Setting("", ".", changed.model_dump(), read_space(changed))
    assert searcher(changed, setting).max_concurrent == 1
