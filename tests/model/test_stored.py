"""What a stored model says of its base."""

from __future__ import annotations

import pytest

from components.model.stored import path_free


@pytest.mark.parametrize(
    ("name", "revision", "stated"),
    [
        ("/home/ada/llava", None, "llava"),
        ("/data/clip + lmsys/vicuna-7b-v1.5", None, "clip + lmsys/vicuna-7b-v1.5"),
        ("llava-hf/llava-1.5-7b-hf", "abc123", "llava-hf/llava-1.5-7b-hf"),
        ("tiny", None, "tiny"),
    ],
)
def test_model_never_states_where_its_base_lay(name, revision, stated):
    reference = {"kind": "checkpoint", "id": name, "revision": revision, "digest": "d" * 64}
    assert path_free(reference) == {**reference, "id": stated}
