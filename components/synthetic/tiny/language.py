"""The tiny language model: a Llama trained on text alone, plates in words and questions about them.

Half the texts describe their plate at a glance: a list of phrases in random order, each of which takes one place in the
sequence, its embedding being the sum of its words' embeddings (plus noise). So the model learns to read a place
that means several words, which is what a projector will hand it later; no picture is involved.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from components.batching.conversation import IGNORED, SYSTEM, Encoder
from components.data.schema import IMAGE_MARKER, Turn
from components.params import TinyLanguage
from components.synthetic.plates.dish import numbers
from components.synthetic.plates.texts import Document, document
from components.synthetic.tiny.optimiser import Report, TinyOptimiser

_MAX_TOKENS = 512
_POSITIONS = 2048
_NOISE = 0.2  # on glances, as a share of the embeddings' own standard deviation
_WITH_SYSTEM = 0.25  # share of dialogues that open with the system's sentences; the others spare the tokens


@dataclass(frozen=True)
class Text:
    """Tokens and labels; at each image marker among them stands the phrase (token ids) of `phrases`."""

    ids: list[int]
    labels: list[int]
    phrases: list[list[int]]


def train_language(
    settings: TinyLanguage, seed: int, tokenizer: PreTrainedTokenizerFast, report: Report | None = None
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
        bos_token_id=_id(tokenizer, tokenizer.bos_token),
        eos_token_id=_id(tokenizer, tokenizer.eos_token),
        pad_token_id=_id(tokenizer, tokenizer.pad_token),
    )
    model = LlamaForCausalLM(config)
    marker = _id(tokenizer, IMAGE_MARKER)
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
        some = [texts[number] for number in chosen]
        ids, labels = _batch(some)
        hidden = model.model(inputs_embeds=_embedded(model, ids, some, marker)).last_hidden_state[:, :-1]
        supervised = labels[:, 1:] != IGNORED
        loss = F.cross_entropy(model.lm_head(hidden[supervised]), labels[:, 1:][supervised])
        optimiser.step(loss)
        if report:
            report(step + 1, f"language {step + 1}/{num_steps}, loss {loss.item():.2f}")
    return _untied(model).eval()


def _texts(settings: TinyLanguage, seed: int, tokenizer: PreTrainedTokenizerFast) -> list[Text]:
    system = len(_ids(tokenizer, SYSTEM))
    phrase_ids = cache(lambda phrase: _ids(tokenizer, f" {phrase}"))  # a few hundred phrases stand in all texts
    texts = []
    for number in range(settings.texts):
        rng = numbers(seed, "base text", number)
        written = document(rng, number / settings.texts)
        left_out = 0 if rng.random() < _WITH_SYSTEM else system
        texts.append(_encoded(written, tokenizer, left_out, phrase_ids))
    return texts


def _encoded(
    written: Document, tokenizer: PreTrainedTokenizerFast, left_out: int, phrase_ids: Callable[[str], list[int]]
) -> Text:
    """A dialogue in the v1 template without its first `left_out` tokens of system, or a plain caption."""
    marker = _id(tokenizer, IMAGE_MARKER)
    phrases = [phrase_ids(phrase) for phrase in written.glance]
    if not written.dialogue:
        before = [_id(tokenizer, tokenizer.bos_token), *[marker] * len(phrases), *_ids(tokenizer, written.text)]
        caption = _ids(tokenizer, written.caption)
        return Text([*before, *caption], [IGNORED] * len(before) + caption, phrases)
    (first, *rest), turns = written.dialogue, []
    start = IMAGE_MARKER if phrases else written.text
    for question, answer in [(f"{start}\n{first[0]}", first[1]), *rest]:
        turns += [Turn("human", question), Turn("assistant", answer)]
    whole = Encoder(tokenizer, "v1", marker, len(phrases)).encode(turns, bool(phrases), _MAX_TOKENS)
    kept = slice(1 + left_out, None)
    return Text(whole.ids[:1] + whole.ids[kept], whole.labels[:1] + whole.labels[kept], phrases)


def _id(tokenizer: PreTrainedTokenizerFast, token: object) -> int:
    number = tokenizer.convert_tokens_to_ids(str(token))
    assert isinstance(number, int)
    return number


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore[reportArgumentType]


def _embedded(model: LlamaForCausalLM, ids: Tensor, texts: list[Text], marker: int) -> Tensor:
    """(texts, longest) -> (texts, longest, width): a word's embedding, or the sum over a phrase, with noise."""
    words = model.model.embed_tokens
    embedded = words(ids)
    phrases = [phrase for text in texts for phrase in text.phrases]
    if not phrases:
        return embedded
    flat = torch.tensor([word for phrase in phrases for word in phrase])
    starts = torch.tensor([0, *(len(phrase) for phrase in phrases)]).cumsum(0)[:-1]
    sums = F.embedding_bag(flat, words.weight, starts, mode="sum")
    noise = _NOISE * words.weight.detach().std() * torch.randn_like(sums)
    return embedded.masked_scatter(ids.eq(marker).unsqueeze(-1), sums + noise)


def _by_length(texts: list[Text], batch: int, rng: random.Random) -> list[int]:
    """Numbers of the texts in their order, but so that a batch holds neighbours of like length."""
    pool = 12 * batch
    batches: list[list[int]] = []
    for start in range(0, len(texts), pool):
        order = sorted(range(start, min(start + pool, len(texts))), key=lambda number: len(texts[number].ids))
        near = [order[first : first + batch] for first in range(0, len(order), batch)]
        whole = [some for some in near if len(some) == batch]
        rng.shuffle(whole)
        batches += whole
    return [number for some in batches for number in some]


def _batch(texts: list[Text]) -> tuple[Tensor, Tensor]:
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
