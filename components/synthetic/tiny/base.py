"""The tiny base of profile `tiny`: encoder and language model trained here, from nothing, in about a minute.

The two know nothing of each other, so each is trained in a process of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CLIPImageProcessorPil, CLIPVisionModel, LlamaForCausalLM, PreTrainedTokenizerFast

from components.batching.conversation import SYSTEM
from components.data.schema import IMAGE_MARKER
from components.data.tasks import (
    CAPTION_QUESTION,
    choice_question,
    ingredients_sample,
    nutrition_sample,
    recipe_sample,
)
from components.params import TinyBase
from components.progress import Bar
from components.synthetic.plates.dish import draw_dish, numbers
from components.synthetic.plates.quiz import plate_problem, text_problem
from components.synthetic.plates.texts import document
from components.synthetic.plates.words import captions, recipe
from components.synthetic.tiny.language import train_language
from components.synthetic.tiny.vision import train_vision

_TOKENIZER_DISHES = 400
_SPECIAL = ("<pad>", "<s>", "</s>", IMAGE_MARKER)


def train_tiny_base(
    settings: TinyBase, image_size: int, seed: int, bar: Bar | None = None
) -> tuple[CLIPVisionModel, LlamaForCausalLM, PreTrainedTokenizerFast, CLIPImageProcessorPil]:
    """Encoder, language model, tokenizer and image processor; none has seen a picture or dish of the drawn sets."""
    tokenizer = train_tokenizer(settings.language.vocabulary, seed)
    spawn = multiprocessing.get_context("spawn")
    steps = spawn.Value("i", 0)  # of the encoder's training

    def show(step: int, note: str) -> None:
        if bar:
            bar.at(step + steps.value, note)

    with tempfile.TemporaryDirectory(prefix="lea-tiny-") as folder:
        aside = spawn.Process(target=_vision_aside, args=(settings, image_size, seed, folder, steps), daemon=True)
        aside.start()
        before = torch.get_num_threads()
        try:
            _prepare(seed)
            language = train_language(settings.language, seed, tokenizer, show)
            aside.join()
        finally:
            torch.set_num_threads(before)
            aside.kill()
            aside.join()
        if aside.exitcode:
            raise RuntimeError(f"training of the tiny encoder ended with exit code {aside.exitcode}")
        vision = CLIPVisionModel.from_pretrained(folder)
    return vision, language, tokenizer, _image_processor(image_size)


def _vision_aside(settings: TinyBase, image_size: int, seed: int, folder: str, steps: Any) -> None:
    """Train the encoder in this process and leave it in `folder`; the parent alone hears Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["DS_ACCELERATOR"] = "cpu"  # saving imports DeepSpeed, which would warn that it finds no GPU

    def show(step: int, note: str) -> None:
        steps.value = step

    _prepare(seed)
    tokenizer = train_tokenizer(settings.language.vocabulary, seed)
    vision = train_vision(settings.vision, image_size, seed, tokenizer, _image_processor(image_size), show)
    vision.save_pretrained(Path(folder))


def _prepare(seed: int) -> None:
    """Random numbers that depend on the seed alone, and one thread: with each number of threads sums are taken in
    another order, and a machine with more cores would make another base."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)


def _image_processor(image_size: int) -> CLIPImageProcessorPil:
    return CLIPImageProcessorPil(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )


def train_tokenizer(vocabulary: int, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits. The words of all tasks are known to it, so that sequences stay short."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_words(seed), trainer)
    start = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[start])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens=[IMAGE_MARKER],
        clean_up_tokenization_spaces=False,
    )


def _words(seed: int) -> list[str]:
    texts = []
    for number in range(_TOKENIZER_DISHES):
        rng = numbers(seed, "base words", number)
        dish = draw_dish(rng)
        samples = [
            ingredients_sample("", dish.ingredients),
            recipe_sample("", recipe(dish)),
            nutrition_sample("", dish.nutrition()),
        ]
        texts += [turn.text.replace(IMAGE_MARKER, "") for sample in samples for turn in sample.turns]
        for problem in (plate_problem(dish, rng), text_problem(rng)):
            texts.append("\n" + choice_question(problem["question"], problem["choices"], problem["hint"]))
        written = document(rng, rng.random())
        texts += [
            written.text,
            *written.glance,
            written.caption,
            *(f"\n{question} {answer}" for question, answer in written.dialogue),
        ]
        texts += [*captions(dish), "\n" + CAPTION_QUESTION, f"{SYSTEM} USER: ASSISTANT: USER:"]
    return texts
