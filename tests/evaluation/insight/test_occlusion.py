"""Occlusion against likelihoods computed token by token, and on a model whose answer depends on one cell."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from components.batching.conversation import IGNORED
from components.data.schema import Turn
from components.evaluation.insight import gallery, occlusion
from components.evaluation.insight.occlusion import CELLS, IMAGES, Occlusion, covered, draw
from components.evaluation.question import Question
from components.evaluation.results import Answer, Results
from components.images.transforms import pixel_values


@pytest.fixture
def shown(picture: Callable[[int], bytes]) -> Image.Image:
    return Image.open(io.BytesIO(picture(1))).convert("RGB")


def test_each_cell_is_covered_once_with_the_mean_colour() -> None:
    pixels = np.zeros((12, 12, 3), dtype=np.uint8)
    pixels[:, :6] = 200
    pictures = covered(Image.fromarray(pixels))
    assert len(pictures) == CELLS**2
    changed = [np.asarray(one)[..., 0] != pixels[..., 0] for one in pictures]
    assert (np.sum(changed, axis=0) == 1).all(), "every pixel is covered by exactly one cell"
    assert {tuple(np.asarray(one)[mask][0]) for one, mask in zip(pictures, changed, strict=True)} == {(100, 100, 100)}


def test_drop_is_the_change_of_the_answer_s_likelihood(assistant: Any, shown: Image.Image) -> None:
    found = occlusion.occlusion(assistant, shown, "word1 word2", "word3 word4")
    assert found is not None
    encoded = assistant.encoder.encode([Turn("human", "word1 word2"), Turn("assistant", "word3 word4")], True, 4096)
    square = occlusion.as_seen(shown, "pad", occlusion.mean_colour(assistant))

    def likelihood(one: Image.Image) -> float:
        pixels = pixel_values([one], assistant.image_processor, "pad")
        with torch.inference_mode():
            logits = assistant.model(input_ids=torch.tensor([encoded.ids]), pixel_values=pixels).logits[0]
        steps = logits.log_softmax(-1)
        return sum(float(steps[place - 1, label]) for place, label in enumerate(encoded.labels) if label != IGNORED)

    assert found.likelihood == pytest.approx(likelihood(square), abs=1e-4)
    last = likelihood(square) - likelihood(covered(square)[-1])
    assert found.drops[-1, -1] == pytest.approx(last, abs=1e-4)
    assert np.abs(found.drops).max() > 0, "a model that sees its image answers to covered cells"


def test_empty_answer_has_no_map(assistant: Any, shown: Image.Image) -> None:
    assert occlusion.occlusion(assistant, shown, "word1", " ") is None


def test_drawing_colours_what_speaks_for_the_answer(assistant: Any) -> None:
    drops = np.zeros((CELLS, CELLS))
    drops[0, 0], drops[5, 5] = 2.0, -1.0
    drawn = np.asarray(draw(Image.new("RGB", (24, 24), (128, 128, 128)), assistant, Occlusion(drops, -1.0))).astype(int)
    assert drawn[5, 5, 0] > drawn[5, 5, 2] + 100, "orange"
    assert drawn[-5, -5, 2] > drawn[-5, -5, 0], "blue"
    assert tuple(drawn[160, 160]) == (128, 128, 128)


def test_gallery_explains_the_answer_of_stage_2_for_a_few_images(
    assistant: Any, shown: Image.Image, tmp_path: Path
) -> None:
    question = Question("1", "chat", "chat", "word1", ("word2",), image=b"x", image_hash="h", source="s")
    results = Results({"finetune": [Answer(question, "word3", 0.0)], "base": [Answer(question, "word9", 0.0)]})
    found = gallery.save_occlusion(tmp_path, 0, shown, assistant, [question], results)
    assert found is not None
    assert (found["question"], found["answer"]) == ("word1", "word3")
    assert (tmp_path / found["image"]).is_file()
    assert gallery.save_occlusion(tmp_path, IMAGES, shown, assistant, [question], results) is None
    assert gallery.save_occlusion(tmp_path, 0, shown, assistant, [question], Results()) is None
