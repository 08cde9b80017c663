"""A model that answers: which precision it computes in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from components.evaluation.inference.assistant import load_assistant
from components.model.base import load_base, save_base
from tests.models import write_tiny_base


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32])
def test_a_cpu_computes_in_single_precision_whatever_the_base_is_stored_in(stored: torch.dtype, tmp_path: Path) -> None:
    write_tiny_base(tmp_path / "first")
    base = load_base(tmp_path / "first")
    folder = tmp_path / "base"
    folder.mkdir()
    save_base(folder, base.model.to(stored), base.tokenizer, base.image_processor, "tiny", "tiny")  # pyright: ignore
    assert load_base(folder).model.dtype == stored
    assistant = load_assistant(folder, None)
    assert {parameter.dtype for parameter in assistant.model.parameters()} == {torch.float32}
