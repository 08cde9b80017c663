"""What a stored model says of its base."""

from __future__ import annotations

import pytest

from components.model.stored import path_free


@pytest.mark.parametrize(
    ("kind", "name", "revision", "stated"),
    [
        ("checkpoint", "/data/llava-1.5-7b-hf", None, "checkpoint"),
        ("checkpoint", "/models/llava15", None, "checkpoint"),
        ("checkpoint", "./models/llava15", None, "checkpoint"),
        ("compose", "/data/clip + lmsys/vicuna-7b-v1.5", None, "compose"),
        ("checkpoint", "llava-hf/llava-1.5-7b-hf", "abc123", "llava-hf/llava-1.5-7b-hf"),
        ("tiny", "tiny", None, "tiny"),
    ],
)
def test_model_never_states_where_its_base_lay_nor_its_folders_name(kind, name, revision, stated):
    reference = {"kind": kind, "id": name, "revision": revision, "digest": "d" * 64}
    assert path_free(reference) == {**reference, "id": stated}
