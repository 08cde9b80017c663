"""What a trial does around its training: no Ray here."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.params import Params
from components.search.trial import forget_other_samples
from components.training.job import Job, Validation
from components.training.journal import VALIDATION_FILE


def watched(params: Params, folder: Path, validation: Validation) -> Job:
    return Job(
        stage="finetune",
        seed=1,
        recipe=params.finetune,
        vce=None,
        vlora=None,
        adapter=None,
        training=params.training,
        base=Path(),
        start=None,
        prepared="",
        assignments=Path(),
        inputs={},
        sources={},
        folder=folder,
        validation=validation,
    )


@pytest.mark.parametrize(
    ("asked", "is_kept"), [(Validation(10, 0), True), (Validation(20, 0), True), (Validation(10, 50), False)]
)
def test_losses_of_other_samples_are_measured_again(
    asked: Validation, is_kept: bool, params: Params, tmp_path: Path
) -> None:
    losses = tmp_path / VALIDATION_FILE
    losses.write_text("of an unknown number\n", encoding="utf-8")
    forget_other_samples(watched(params, tmp_path, Validation(10, 0)))
    assert not losses.exists()
    losses.write_text("of all\n", encoding="utf-8")
    forget_other_samples(watched(params, tmp_path, asked))
    assert losses.exists() == is_kept
