"""Which parts of a test image an answer rests on: cover a cell of it and see how much less likely the answer becomes.

    drop(cell) = log p(answer | image, question) - log p(answer | image with the cell in its mean colour, question)

in nats, summed over the answer's tokens and its end mark. Above zero: the cell speaks for the answer. Unlike the size
of a feature, this is a property of the whole model. Occlusion after Zeiler and Fergus (2014, arXiv 1311.2901).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageStat
from torch import Tensor

from components.batching.conversation import IGNORED
from components.data.schema import Turn
from components.evaluation.insight.heat_map import SIDE, as_seen, mean_colour
from components.evaluation.insight.teacher_forcing import LONGEST
from components.images.transforms import pixel_values

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

CELLS = 6  # per side of the grid: 37 forward passes an image
IMAGES = 4  # of the report's samples at most, so that the cost stays that of a few answers
BATCH = 8  # pictures at once
OPACITY = 0.75  # of the cell with the largest change


@dataclass(frozen=True)
class Occlusion:
    """`drops`: (CELLS, CELLS) in nats. `likelihood`: log p(answer) with the whole image, in nats."""

    drops: np.ndarray
    likelihood: float


def occlusion(assistant: Assistant, picture: Image.Image, question: str, answer: str) -> Occlusion | None:
    """The change of the answer's likelihood by cell; None where the answer is empty or its tokens do not fit."""
    turns = [Turn("human", question), Turn("assistant", answer)]
    encoded = assistant.encoder.encode(turns, has_image=True, max_length=LONGEST)
    if not answer.strip() or not assistant.encoder.is_trainable(encoded, has_image=True):
        return None
    square = as_seen(picture, assistant.image, mean_colour(assistant))
    pictures = [square, *covered(square)]
    found = torch.cat(
        [
            _likelihoods(assistant, pictures[start : start + BATCH], encoded.ids, encoded.labels)
            for start in range(0, len(pictures), BATCH)
        ]
    )
    return Occlusion((found[0] - found[1:]).reshape(CELLS, CELLS).cpu().numpy(), float(found[0]))


def covered(square: Image.Image) -> list[Image.Image]:
    """The picture once for each cell, row by row, with that cell in the picture's mean colour."""
    colour = tuple(round(channel) for channel in ImageStat.Stat(square).mean)
    borders = [round(square.width * place / CELLS) for place in range(CELLS + 1)]
    pictures = []
    for top, bottom in itertools.pairwise(borders):
        for left, right in itertools.pairwise(borders):
            one = square.copy()
            one.paste(colour, (left, top, right, bottom))
            pictures.append(one)
    return pictures


@torch.inference_mode()
def _likelihoods(assistant: Assistant, pictures: list[Image.Image], ids: list[int], labels: list[int]) -> Tensor:
    """(pictures,) log likelihoods of the labelled tokens, each picture before the same conversation."""
    model: Any = assistant.model
    first = next(place for place, label in enumerate(labels) if label != IGNORED)
    kept = len(ids) - first + 1  # the token before the first answered one predicts it
    logits = model(
        input_ids=torch.tensor([ids] * len(pictures), device=model.device),
        pixel_values=pixel_values(pictures, assistant.image_processor, assistant.image).to(model.device, model.dtype),
        use_cache=False,
        logits_to_keep=kept,
    ).logits
    wanted = torch.tensor(labels[first:], device=logits.device)
    chosen = logits[:, :-1].float().log_softmax(-1).gather(-1, wanted.clamp(min=0).expand(len(pictures), -1)[..., None])
    return (chosen[..., 0] * (wanted != IGNORED)).sum(-1).double()


def draw(picture: Image.Image, assistant: Assistant, found: Occlusion) -> Image.Image:
    """The picture in grey; cells that speak for the answer orange, cells that speak against it blue."""
    grey = as_seen(picture, assistant.image, mean_colour(assistant)).convert("L").convert("RGB")
    square = grey.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    strength = np.abs(found.drops) / max(float(np.abs(found.drops).max()), 1e-9)
    colours = np.where(found.drops[..., None] > 0, (255, 140, 0), (40, 110, 255)).astype(np.uint8)
    mask = Image.fromarray((255 * OPACITY * strength).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    return Image.composite(Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.NEAREST), square, mask)


def save_occlusion(
    folder: Path, place: int, picture: Image.Image, assistant: Assistant, question: str, answer: str
) -> dict[str, Any] | None:
    """Write the drawing and return its file name, the question, the answer, its likelihood and the largest drop."""
    found = occlusion(assistant, picture, question, answer)
    if found is None:
        return None
    name = f"occlusion_{place}.png"
    draw(picture, assistant, found).save(folder / name)
    return {
        "image": name,
        "question": question,
        "answer": answer,
        "log_likelihood": found.likelihood,
        "largest_drop": float(found.drops.max()),
        "drops": [[round(float(drop), 4) for drop in row] for row in found.drops],
    }
