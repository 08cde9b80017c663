"""Test questions read with their true answers, so that hooks can watch what a model's parts do with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from components.data.schema import Turn
from components.evaluation.question import Question
from components.images.decoding import decode
from components.images.transforms import pixel_values

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

QUESTIONS_PER_TASK = 32  # a few thousand tokens: means over tokens move in the third digit from here on
LONGEST = 4096  # tokens


def by_task(asked: Sequence[Question]) -> Iterator[tuple[str, list[Question]]]:
    """Each task with its first questions."""
    for task in dict.fromkeys(question.task for question in asked):
        yield task, [question for question in asked if question.task == task][:QUESTIONS_PER_TASK]


def read(assistant: Assistant, questions: Sequence[Question], max_pixels: int) -> None:
    """Let the model read questions with their true answers. One at a time, so that no padding is counted."""
    for question in questions:
        _read(assistant, question, max_pixels)


@torch.inference_mode()
def _read(assistant: Assistant, question: Question, max_pixels: int) -> None:
    turns = [Turn("human", question.text), Turn("assistant", question.references[0])]
    encoded = assistant.encoder.encode(turns, question.image is not None, LONGEST)
    device = assistant.model.device
    picture = {}
    if question.image is not None:
        pixels = pixel_values([decode(question.image, max_pixels)], assistant.image_processor, assistant.image)
        picture["pixel_values"] = pixels.to(device, assistant.model.dtype)
    assistant.model(input_ids=torch.tensor([encoded.ids], device=device), use_cache=False, logits_to_keep=1, **picture)
