"""Entropy of the skill space by layer and task (paper Figure 6), over test questions with their true answers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from components.data.images import decode
from components.data.schema import Turn
from components.evaluation.insight import SkillSpaces
from components.evaluation.question import Question
from components.model.vision_input import pixel_values

if TYPE_CHECKING:
    from components.model.assemble import Assistant

COLUMNS = ("layer", "task", "before", "after", "zero_share", "silent_share")
QUESTIONS_PER_TASK = 32  # a few thousand tokens: means over tokens move in the third digit from here on
LONGEST = 4096  # tokens


def write_entropy(path: Path, assistant: Assistant, asked: Sequence[Question], max_pixels: int) -> None:
    """Nats before and after rectification, share of task units at zero, of tokens with all of them at zero.

    Only the header where the model has no Dual-LoRA layer.
    """
    records = []
    for task in dict.fromkeys(question.task for question in asked):
        chosen = [question for question in asked if question.task == task][:QUESTIONS_PER_TASK]
        with SkillSpaces(assistant.model) as spaces, torch.inference_mode():
            for question in chosen:
                _read(assistant, question, max_pixels)
        for layer, seen in spaces.layers().items():
            values = (seen.skill_entropy, seen.rectified_entropy, seen.zero_task_share, seen.silent_share)
            records.append((layer, task, *(f"{value:.6f}" for value in values)))
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(COLUMNS)
        lines.writerows(records)


def _read(assistant: Assistant, question: Question, max_pixels: int) -> None:
    """Let the model read a question with its true answer. One at a time, so that no padding is counted."""
    turns = [Turn("human", question.text), Turn("assistant", question.references[0])]
    encoded = assistant.encoder.encode(turns, question.image is not None, LONGEST)
    device = assistant.model.device
    picture = {}
    if question.image is not None:
        pixels = pixel_values([decode(question.image, max_pixels)], assistant.image_processor, assistant.image)
        picture["pixel_values"] = pixels.to(device, assistant.model.dtype)
    assistant.model(input_ids=torch.tensor([encoded.ids], device=device), use_cache=False, logits_to_keep=1, **picture)
