"""Nonsense gets an answer below 500, and the server answers sense afterwards."""

from __future__ import annotations

from collections import Counter

from benchmarks.serving_model import nonsense
from components.serving.limits import Limits
from tests.serving.running import asking, data_url, running


def test_no_nonsense_is_answered_with_5xx(champion):
    limits = Limits(max_body_bytes=300_000, max_pixels=1_000_000, max_new_tokens=8)
    with running(limits=limits) as server:
        statuses = Counter(server.chat(body)[0] for body in nonsense(120, seed=1))
        assert max(statuses) < 500, statuses
        assert statuses[400] > 20
        assert statuses[200] > 5
        assert server.chat(asking(image=data_url()))[0] == 200
