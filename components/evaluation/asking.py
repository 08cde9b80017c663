"""Asking a model what its journal does not know yet, with progress and the time left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from components.evaluation.journal import Journal
from components.evaluation.question import Question
from components.progress import Bar

if TYPE_CHECKING:
    from components.model.assemble import Assistant


def ask(
    assistant: Callable[[], Assistant],
    asked: Sequence[Question],
    journal: Journal,
    *,
    what: str,
    batch: int,
    max_pixels: int,
) -> list[str]:
    """All answers in the order of the questions. The model is loaded only if something is left to ask."""
    left = list({journal.key(q): q for q in asked if journal.get(q) is None}.values())
    if left:
        from components.evaluation.answering import answers_by_batch

        batches = answers_by_batch(
            assistant(), left, max_new_tokens=journal.max_new_tokens, batch=batch, max_pixels=max_pixels
        )
        with Bar(what, total=len(left)) as bar:
            for answered in batches:
                journal.add((left[place], text) for place, text in answered.items())
                bar.at(bar.done + len(answered))
    answers = [journal.get(question) for question in asked]
    assert None not in answers
    return [answer for answer in answers if answer is not None]
