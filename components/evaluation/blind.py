"""The blind row: each question asked again with the image of another dish.

What a model scores here it knows without looking. The exchange is the same in every run and never gives
an image of the same group (another photo of the same dish), nor one of another benchmark. Where all of a
benchmark's questions read alike, the model has been asked the very same things about their own images:
the journal then knows every answer, and the row costs nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from components.evaluation.question import Question


def with_wrong_images(asked: Sequence[Question]) -> list[Question]:
    """The questions that have an image, with one of another group; text-only questions fall out.

    So does a benchmark of whose images more than half are one group.
    """
    names = dict.fromkeys(question.benchmark for question in asked)
    return [q for name in names for q in _exchanged([one for one in asked if one.benchmark == name])]


def _exchanged(asked: Sequence[Question]) -> list[Question]:
    """Images stand in a fixed order that knows nothing of their content, groups side by side; each gives place to
    the one as many steps ahead as the largest group is long, which is always in another group.
    """
    images: dict[str, Question] = {}
    for question in asked:
        if question.image_hash is not None:
            images.setdefault(question.image_hash, question)
    order = sorted(images.values(), key=lambda question: (_shuffled(question.group), question.image_hash))
    if not order:
        return []
    step = max(Counter(question.group for question in order).values())
    if 2 * step > len(order):
        return []
    other = {here.image_hash: order[(place + step) % len(order)] for place, here in enumerate(order)}
    exchanged = []
    for question in asked:
        if question.image_hash is not None:
            wrong = other[question.image_hash]
            assert wrong.image is not None
            assert wrong.image_hash is not None
            exchanged.append(question.shown(wrong.image, wrong.image_hash))
    return exchanged


def _shuffled(group: str) -> str:
    return hashlib.sha256(group.encode()).hexdigest()
