"""How much faster are answers with a shared prefill than Hugging Face's `generate`? Prints a table, writes JSON.

    python -m benchmarks.evaluation --images 12 --rounds 3

Three ways, one model, the same questions, the same greedy answers (checked, text by text):

    ours           an image is read once for all its questions, rows that have ended leave the batch
    one at a time  a question after the other, as LLaVA's model_vqa_loader asks them
    batched        `generate` on batches as large as ours, padded on the left, an image for every row

Shapes: UniFood, 3 questions an image with answers of 30, 120 and 40 tokens; POPE, 6 yes/no questions an image.
A round runs every way once, in rotating order; a figure is the median over rounds of (way / ours in that round). CPU
seconds of this process are counted, so that neighbours on the machine weigh less. Reading and shrinking images is part
of every way. Goals: one at a time 3.2 (UniFood) and 5 (POPE), batched 1.6 and 5.

A prompt is 34 words of instruction as in LLaVA's v1 template, the image's 256 places, and the question: 8 words, of
which the first three are those of the other questions (`Is there a ...`).

The model has random weights but for one thing: embeddings and vocabulary projection make each token call for the next
of its chain, and a chain ends after as many tokens as the answer is to have. So lengths are those of real answers
while every layer does its full work.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from benchmarks.machine import machine
from components.evaluation.inference.answering import answer
from components.evaluation.inference.assistant import Assistant
from components.evaluation.question import Question
from components.images.decoding import decode
from components.images.transforms import pixel_values
from components.model.vision_tower import stop_after_last_level

VOCABULARY, PATCHES, SIDE = 8000, 256, 224
IMAGE, END, START = 0, 1, 2
SHAPES = {"unifood": (30, 120, 40), "pope": (1,) * 6}  # tokens of each answer to one image
GOALS = {"unifood": {"one at a time": 3.2, "batched": 1.6}, "pope": {"one at a time": 5.0, "batched": 5.0}}
PHOTO = (640, 480)  # pixels
MAX_PIXELS = 10**6
SYSTEM = " ".join(f"w{word}" for word in range(3000, 3034))
ASKS = SYSTEM + " {{ messages[0]['content'] }}"  # the question's last word calls the answer
OPENING, WORDS = "w4000 w4001 w4002", 8  # how every question begins; how long it is


def build_assistant() -> Assistant:
    """LLM 512 wide, 8 blocks; encoder 384 wide, 12 blocks, 224 pixels: 256 image tokens."""
    torch.manual_seed(0)
    words = {"<image>": IMAGE, "</s>": END, "<s>": START, "<unk>": 3}
    words |= {f"w{number}": number for number in range(len(words), VOCABULARY)}
    raw = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="</s>", bos_token="<s>", unk_token="<unk>", pad_token="</s>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = ASKS
    vision = CLIPVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=SIDE,
        patch_size=14,
    )
    language = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        eos_token_id=END,
        bos_token_id=START,
    )
    config = LlavaConfig(vision_config=vision, text_config=language, image_token_index=IMAGE, image_seq_length=PATCHES)
    model: Any = LlavaForConditionalGeneration(config).eval()
    embedded = model.model.get_input_embeddings().weight.data.normal_()
    model.lm_head.weight.data.copy_(embedded[follows() - 1])  # a token is called by the one before it
    model.lm_head.weight.data[END] = 1.5 * embedded[chain_ends()].sum(dim=0)  # more than the next word of the chain
    model.generation_config.eos_token_id = END
    model.generation_config.pad_token_id = END
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return Assistant(model, tokenizer, processor, "chat", "pad")


def follows() -> torch.Tensor:
    return torch.arange(VOCABULARY).clamp(min=1)


def chain_starts() -> dict[int, int]:
    """Length of an answer -> the word that calls it: the words after it, `length` of them, are the answer."""
    lengths = sorted({length for shape in SHAPES.values() for length in shape})
    return {length: 200 * (place + 1) for place, length in enumerate(lengths)}


def chain_ends() -> list[int]:
    return [start + length for length, start in chain_starts().items()]


def questions(shape: Sequence[int], images: int) -> list[Question]:
    """Each image with a question for each length; a question ends with the word that calls its answer."""
    random = np.random.default_rng(1)
    asked = []
    for number in range(images):
        noise = random.integers(0, 255, (PHOTO[1] // 16, PHOTO[0] // 16, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize(PHOTO).save(stream, "JPEG")
        for place, length in enumerate(shape):
            own = [f"w{word}" for word in random.integers(5000, VOCABULARY, WORDS - 4)]
            name, text = f"{number}/{place}", " ".join([OPENING, *own, f"w{chain_starts()[length]}"])
            asked.append(Question(name, "x", "chat", text, (), image=stream.getvalue(), image_hash=f"{number}"))
    return asked


def generate(assistant: Assistant, asked: Sequence[Question], most: int, batch: int) -> list[str]:
    """Hugging Face's way: rows padded on the left, an image for every row."""
    answers = []
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        rows = [assistant.encoder.prompt(question.text, True) for question in part]
        width = max(map(len, rows))
        ids = torch.tensor([[END] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        shown = [decode(question.image or b"", MAX_PIXELS) for question in part]
        pixels = pixel_values(shown, assistant.image_processor, assistant.image)
        with torch.inference_mode():
            model: Any = assistant.model
            tokens = model.generate(
                input_ids=ids, attention_mask=mask, pixel_values=pixels, do_sample=False, max_new_tokens=most
            )
        answers += assistant.tokenizer.batch_decode(tokens[:, width:], skip_special_tokens=True)
    return [text.strip() for text in answers]


def measured(assistant: Assistant, shape: Sequence[int], images: int, batch: int, rounds: int) -> dict[str, Any]:
    asked, most = questions(shape, images), max(shape) + 8
    own = deepcopy(assistant)
    stop_after_last_level(own.model)  # as load_assistant does
    ways: dict[str, Callable[[], list[str]]] = {
        "ours": lambda: answer(own, asked, max_new_tokens=most, batch=batch, max_pixels=MAX_PIXELS),
        "one at a time": lambda: generate(assistant, asked, most, 1),
        "batched": lambda: generate(assistant, asked, most, batch),
    }
    expected = [" ".join(f"w{chain_starts()[n] + step + 1}" for step in range(n)) for _ in range(images) for n in shape]
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(rounds):
        names = list(ways)
        for way in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.process_time()
            assert ways[way]() == expected, f"{way} answers otherwise"
            taken[way].append(time.process_time() - started)
    return {
        way: {
            "seconds": statistics.median(seconds),
            "times_ours": statistics.median(one / ours for one, ours in zip(seconds, taken["ours"], strict=True)),
        }
        for way, seconds in taken.items()
    }


def table(results: dict[str, Any]) -> str:
    lines = [f"{'shape':<10}{'way':<16}{'seconds':>9}{'times ours':>12}{'goal':>7}"]
    for shape, ways in results["shapes"].items():
        for way, row in ways.items():
            goal = GOALS[shape].get(way, "")
            lines.append(f"{shape:<10}{way:<16}{row['seconds']:>9.2f}{row['times_ours']:>12.2f}{goal:>7}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--batch", type=int, default=36, help="questions at once, ours and batched")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/evaluation.json"))
    args = parser.parse_args()
    assistant = build_assistant()
    results: dict[str, Any] = {
        "machine": machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "images": args.images,
        "batch": args.batch,
        "rounds": args.rounds,
        "shapes": {
            shape: measured(assistant, SHAPES[shape], args.images, args.batch, args.rounds) for shape in args.shapes
        },
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
