"""Multiple choice: accuracy, and the table of actual against predicted letters."""

from __future__ import annotations

from collections.abc import Sequence

FAILED = "none"  # the predicted class of an answer in which the rule finds no letter


def accuracy(predicted: Sequence[str | None], true: Sequence[str]) -> float:
    """0..1; an answer without a letter is wrong."""
    return sum(guess == letter for guess, letter in zip(predicted, true, strict=True)) / len(true)


def confusion(predicted: Sequence[str | None], true: Sequence[str]) -> list[dict[str, str]]:
    """One record for each sample, as `dvc plots` counts them: {"actual", "predicted"}."""
    pairs = zip(predicted, true, strict=True)
    return [{"actual": letter, "predicted": guess or FAILED} for guess, letter in pairs]
