"""The tiny language model: a Llama trained on text alone, plates in words and questions about them."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.data.conversation import IGNORED, SYSTEM, Encoded, Encoder
from components.data.plates.dish import numbers
from components.data.plates.texts import Document, document
from components.data.schema import IMAGE_MARKER, Turn
from components.model.tiny_optimiser import TinyOptimiser
from components.params import TinyLanguage
from components.progress import Bar

_MAX_TOKENS = 512
_POSITIONS = 2048
_WITH_SYSTEM = 0.4  # share of dialogues that open with the system's sentences; the others spare the tokens


def train_language(
    settings: TinyLanguage, seed: int, tokenizer: PreTrainedTokenizerFast, bar: Bar | None = None
) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=3 * settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=_POSITIONS,
        initializer_range=0.03,
        tie_word_embeddings=True,  # while training: copying a word out of a description is learnt much sooner
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    texts = _texts(settings, seed, tokenizer)
    steps_per_epoch = len(texts) // settings.batch
    num_steps = settings.epochs * steps_per_epoch
    optimiser = TinyOptimiser(model.model.layers, [model], settings.learning_rate, num_steps)
    order = list(range(len(texts)))
    shuffle = numbers(seed, "base order")
    model.train()
    for step in range(num_steps):
        if step % steps_per_epoch == 0:
            order = _by_length(texts, settings.batch, shuffle)
        chosen = order[step % steps_per_epoch * settings.batch :][: settings.batch]
        ids, labels = _batch([texts[number] for number in chosen])
        hidden = model.model(input_ids=ids).last_hidden_state[:, :-1]
        supervised = labels[:, 1:] != IGNORED
        loss = F.cross_entropy(model.lm_head(hidden[supervised]), labels[:, 1:][supervised])
        optimiser.step(loss)
        if bar:
            bar.at(step + 1, f"language {step + 1}/{num_steps}, loss {loss.item():.2f}")
    return _untied(model).eval()


def _texts(settings: TinyLanguage, seed: int, tokenizer: PreTrainedTokenizerFast) -> list[Encoded]:
    image_token = tokenizer.convert_tokens_to_ids(IMAGE_MARKER)
    assert isinstance(image_token, int)
    encoder = Encoder(tokenizer, "v1", image_token, 0)
    system = len(tokenizer(SYSTEM, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType]
    texts = []
    for number in range(settings.texts):
        rng = numbers(seed, "base text", number)
        texts.append(_encoded(document(rng), encoder, 0 if rng.random() < _WITH_SYSTEM else system))
    return texts


def _encoded(text: Document, encoder: Encoder, left_out: int) -> Encoded:
    """A dialogue in the v1 template without its first `left_out` tokens of system, or a plain caption."""
    tokenizer = encoder.tokenizer
    if not text.dialogue:
        before = [tokenizer.bos_token_id, *tokenizer(text.before, add_special_tokens=False)["input_ids"]]
        caption = tokenizer(text.caption, add_special_tokens=False)["input_ids"]
        return Encoded([*before, *caption], [IGNORED] * len(before) + list(caption))
    turns = []
    for number, (question, answer) in enumerate(text.dialogue):
        asked = f"{text.before}\n{question}" if number == 0 and text.before else question
        turns += [Turn("human", asked), Turn("assistant", answer)]
    whole = encoder.encode(turns, False, _MAX_TOKENS)
    return Encoded(whole.ids[:1] + whole.ids[1 + left_out :], whole.labels[:1] + whole.labels[1 + left_out :])


def _by_length(texts: list[Encoded], batch: int, rng: random.Random) -> list[int]:
    """Numbers of all texts, so ordered that a batch holds texts of like length and batches come at random."""
    order = list(range(len(texts)))
    rng.shuffle(order)
    pool = 8 * batch
    batches = []
    for start in range(0, len(order), pool):
        near = sorted(order[start : start + pool], key=lambda number: len(texts[number].ids))
        batches += [near[first : first + batch] for first in range(0, len(near), batch)]
    whole = [some for some in batches if len(some) == batch]
    rng.shuffle(whole)
    return [number for some in whole for number in some]


def _batch(texts: list[Encoded]) -> tuple[Tensor, Tensor]:
    """Ids and labels (texts, longest), padded at the end: causal attention never looks there."""
    longest = max(len(text.ids) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    labels = torch.full((len(texts), longest), IGNORED)
    for row, text in enumerate(texts):
        ids[row, : len(text.ids)] = torch.tensor(text.ids)
        labels[row, : len(text.ids)] = torch.tensor(text.labels)
    return ids, labels


def _untied(model: LlamaForCausalLM) -> LlamaForCausalLM:
    """The same model with an output matrix of its own, as most large models have."""
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model
