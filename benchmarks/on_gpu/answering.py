"""Answers against batched `generate`: six short ones an image, and three long ones.

An answer has a fixed number of tokens: the end mark is never the likeliest word, whatever the random weights say.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from benchmarks.on_gpu.clock import Bench
from benchmarks.on_gpu.models import adapted, base, plain, settings
from components.evaluation.inference.answering import answer
from components.evaluation.inference.assistant import Assistant
from components.evaluation.question import Question
from components.images.decoding import decode
from components.images.transforms import pixel_values

START, END, UNKNOWN = "<s>", "</s>", "<unk>"
SYSTEM = " ".join(f"w{word}" for word in range(100, 134))
PHOTO, MAX_PIXELS = (640, 480), 10**6


def short(bench: Bench) -> None:
    """Yes or no: one word and the end mark."""
    _compare(bench, "answers, 6 short an image", images=2 if bench.tiny else 12, each=6, tokens=2)


def long(bench: Bench) -> None:
    images, tokens = (2, 6) if bench.tiny else (4, 96)
    _compare(bench, "answers, 3 long an image", images=images, each=3, tokens=tokens, rounds=1 if bench.tiny else 2)


def _compare(bench: Bench, name: str, images: int, each: int, tokens: int, rounds: int | None = None) -> None:
    params = settings(bench)
    whole = base(bench, params)
    with torch.no_grad():
        whole.lm_head.weight[:3] = 0  # the end mark's score is 0; some word's is above it
    ours, theirs = (adapted(whole, params, "dual_lora", vce=True).eval() for _ in range(2))
    assistant, peer = _assistant(ours, whole), _assistant(plain(theirs), whole)
    asked = _questions(images, each)
    batch = min(36, len(asked))
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: answer(assistant, asked, max_new_tokens=tokens, batch=batch, max_pixels=MAX_PIXELS),
        "generate": lambda: _generate(peer, asked, tokens, batch),
    }
    taken = bench.rotate(runs, rounds=rounds, warm_up=1)
    steps = tokens * -(-len(asked) // batch)
    bench.emit_ratio(f"{name}: generate's seconds / ours", taken["generate"], taken["ours"])
    for way in runs:
        bench.emit_each(f"{name}: {way}, a step", taken[way], "ms", 1000 / steps)


def _generate(assistant: Assistant, asked: list[Question], tokens: int, batch: int) -> None:
    """Hugging Face's way: rows padded on the left, an image for every row, transformers' own blocks."""
    model: Any = assistant.model
    for start in range(0, len(asked), batch):
        part = asked[start : start + batch]
        rows = [assistant.encoder.prompt(question.text, True) for question in part]
        width = max(map(len, rows))
        ids = torch.tensor([[1] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        shown = [decode(question.image or b"", MAX_PIXELS) for question in part]
        pixels = pixel_values(shown, assistant.image_processor, assistant.image)
        with torch.inference_mode():
            made = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                pixel_values=pixels.to(model.device, model.dtype),
                do_sample=False,
                max_new_tokens=tokens,
                min_new_tokens=tokens,
            )
        assistant.tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)


def _assistant(model: Any, whole: Any) -> Assistant:
    image, words = whole.config.image_token_id, whole.config.text_config.vocab_size
    known = {START: 0, END: 1, UNKNOWN: 2}
    known |= {f"w{number}": number for number in range(3, words) if number != image}
    known["<image>"] = image
    raw = Tokenizer(models.WordLevel(known, unk_token=UNKNOWN))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=START, eos_token=END, unk_token=UNKNOWN, pad_token=END
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = SYSTEM + " {{ messages[0]['content'] }}"
    side = model.config.vision_config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = 1
    return Assistant(model, tokenizer, processor, "chat", "pad")


def _questions(images: int, each: int) -> list[Question]:
    random = np.random.default_rng(1)
    asked = []
    for number in range(images):
        noise = random.integers(0, 255, (PHOTO[1] // 16, PHOTO[0] // 16, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(noise).resize(PHOTO).save(stream, "JPEG")
        for place in range(each):
            text = " ".join(f"w{word}" for word in [200, 201, 202, *random.integers(300, 800, 5)])
            question = Question(
                f"{number}/{place}", "x", "chat", text, (), image=stream.getvalue(), image_hash=f"{number}"
            )
            asked.append(question)
    return asked
