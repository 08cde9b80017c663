from __future__ import annotations

import re
import time

import pytest

from components.params.patterns import complaint


@pytest.mark.parametrize(
    "pattern",
    [
        r"layers\.(0|1)\..*_proj",
        r"layers\.\d+\..*(q|v)_proj",
        r".*language_model\.(?:(?:.*\.)?q_proj|(?:.*\.)?k_proj|(?:.*\.)?v_proj|(?:.*\.)?o_proj)",
        r"(?<=x)y{1,3}",
    ],
)
def test_patterns_that_end_are_taken(pattern: str) -> None:
    assert complaint(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"(a+)+$", "within a repeat"),
        (r"(a|a)*$", "within a repeat"),
        (r"((\w+\.)*)*x", "within a repeat"),
        (r"(?:.*x){20}", "within a repeat"),
        (r".*.*.*.*y", "more than 3"),
        ("(", "no valid regex"),
        ("(" * 5000, "longer than"),
        ("a" * 1001, "longer than"),
    ],
)
def test_patterns_that_explode_are_refused_at_once(pattern: str, reason: str) -> None:
    started = time.monotonic()
    assert reason in (complaint(pattern) or "")
    assert time.monotonic() - started < 1


def test_what_is_taken_ends_on_long_names() -> None:
    name = "model.language_model." + "a" * 150
    started = time.monotonic()
    for pattern in (r".*.*.*y", r".*a+.*y", r"(?:.*\.)?.*a.*y"):
        assert complaint(pattern) is None
        assert re.fullmatch(pattern, name) is None
    assert time.monotonic() - started < 5
