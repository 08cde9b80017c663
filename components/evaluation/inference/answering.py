"""Greedy answers in batches; questions about one image share its prefill.

A prompt is system text, image, question, and only its end differs between the questions of one image:

    prefill     |- system, image -|                 once for an image
    repeat      the cache's rows, one for each question
    prefill     |- question -|                      the rest of each prompt
    decode      one token for each row at a time, until its end mark or `max_new_tokens`

Rows are padded on the left of each part and padding is hidden by the attention mask, positions count
real tokens only; so the text equals that of one prompt alone in `generate(do_sample=False)`, up to
rounding. Prompts are sorted by length to save padding, and rows that have ended leave the batch. Where a sliding window
may end within a prompt, each is read alone.

A batch that fails is halved, and its halves again, until what fails is one question: that one gets `Failed` for an
answer, the others theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from components.evaluation.inference.cache import Prefilled, roomy_cache
from components.evaluation.inference.journal import Answered, Failed
from components.evaluation.inference.stepped import attention_without_plans, can_decode_in_steps, decode_in_steps
from components.evaluation.question import Question
from components.images.decoding import decode
from components.images.transforms import pixel_values
from components.model.connector import picture
from components.model.language import window_of
from components.model.vlora import ARGUMENT

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

READERS = 8  # threads that decode images
SHRINK_AT = 0.75  # share of rows still going at which the ended ones are cut out of the cache


Read = Callable[[Sequence[Sequence[int]]], dict[int, str]]  # groups of places -> answers


def answer(assistant: Assistant, asked: Sequence[Question], *, batch: int, **settings: int) -> list[str]:
    """All answers, in the order of the questions; what goes wrong is raised."""
    prompts, read = _reader(assistant, asked, **settings)
    batch = _rows_at_once(assistant.model, prompts, batch, settings["max_new_tokens"])
    answers: dict[int, str] = {}
    for groups in batches(asked, prompts, batch):
        answers |= read(groups)
    return [answers[place] for place in range(len(asked))]


def answers_by_batch(
    assistant: Assistant, asked: Sequence[Question], *, batch: int, **settings: int
) -> Iterator[dict[int, Answered]]:
    """Yield the answers of one batch after the other, under the places of their questions in `asked`."""
    prompts, read = _reader(assistant, asked, **settings)
    batch = _rows_at_once(assistant.model, prompts, batch, settings["max_new_tokens"])
    for groups in batches(asked, prompts, batch):
        yield _each_for_itself(read, groups)


def _reader(
    assistant: Assistant, asked: Sequence[Question], *, max_new_tokens: int, max_pixels: int
) -> tuple[list[list[int]], Read]:
    """The prompts, and the function that answers a batch of them."""
    encoder = assistant.encoder
    prompts = [encoder.prompt(question.text, question.image is not None) for question in asked]
    stops = stop_tokens(assistant)

    def read(groups: Sequence[Sequence[int]]) -> dict[int, str]:
        with torch.inference_mode(), attention_without_plans(assistant.model.device):
            prefilled = prefill(assistant, asked, prompts, groups, max_pixels)
            tokens = decode_greedily(assistant.model, prefilled, stops, max_new_tokens)
        texts = assistant.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        places = [place for group in groups for place in group]
        return {place: text.strip() for place, text in zip(places, texts, strict=True)}

    return prompts, read


def _rows_at_once(model: Any, prompts: Sequence[Sized], batch: int, max_new_tokens: int) -> int:
    """`batch`, or 1 where rows may be longer than a sliding window: that one counts a row's padding as tokens.

    Both parts of a prompt are padded, to twice the longest at most.
    """
    window = window_of(model.config)
    longest = max(map(len, prompts), default=0)
    return batch if window is None or 2 * longest + max_new_tokens <= window else 1


def _each_for_itself(read: Read, groups: Sequence[Sequence[int]]) -> dict[int, Answered]:
    """What `read` answers; where it raises, what it answers to the halves."""
    try:
        return {**read(groups)}
    except Exception as error:  # a damaged image, too little memory: it is that question's, and recorded with it
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]
    if len(groups) == len(groups[0]) == 1:
        return {groups[0][0]: Failed(reason)}
    if len(groups) > 1:
        halves = [groups[: len(groups) // 2], groups[len(groups) // 2 :]]
    else:
        middle = len(groups[0]) // 2
        halves = [[groups[0][:middle]], [groups[0][middle:]]]
    return _each_for_itself(read, halves[0]) | _each_for_itself(read, halves[1])


def stop_tokens(assistant: Assistant) -> frozenset[int]:
    """The tokens that end an answer, as `generate` would take them."""
    ends = getattr(assistant.model.generation_config, "eos_token_id", None)
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return frozenset([*ends, assistant.tokenizer.eos_token_id])


def batches(asked: Sequence[Question], prompts: Sequence[Sized], size: int) -> Iterator[list[list[int]]]:
    """Places of questions, by image, in batches of at most `size` questions; longest prompts first.

    The longest first, so that a batch that does not fit into memory fails at the start.
    """
    by_image: dict[object, list[int]] = {}
    for place, question in enumerate(asked):
        by_image.setdefault(question.image_hash or place, []).append(place)
    groups = [places[start : start + size] for places in by_image.values() for start in range(0, len(places), size)]
    groups.sort(key=lambda places: -max(len(prompts[place]) for place in places))
    taken: list[list[int]] = []
    for group in groups:
        if taken and sum(map(len, taken)) + len(group) > size:
            yield taken
            taken = []
        taken.append(group)
    if taken:
        yield taken


def prefill(
    assistant: Assistant,
    asked: Sequence[Question],
    prompts: Sequence[Sequence[int]],
    groups: Sequence[Sequence[int]],
    max_pixels: int,
) -> Prefilled:
    """Read each group's common start once, then the rest of each prompt. Rows: the groups' questions in order."""
    model = assistant.model
    # One token at least is left for the second part: its logits begin the answer.
    starts = [_num_shared([prompts[place][:-1] for place in group]) for group in groups]
    images = [asked[group[0]].image for group in groups]
    shown = _pixels(assistant, [image for image in images if image is not None], max_pixels)
    seen = {}
    if shown:
        pixels = torch.cat(shown)
        has_image = torch.tensor([image is not None for image in images], device=model.device)
        seen = picture(model, pixels.to(model.device, model.dtype), has_image)
    common = [prompts[group[0]][:start] for group, start in zip(groups, starts, strict=True)]
    rest = [prompts[place][start:] for group, start in zip(groups, starts, strict=True) for place in group]
    read = read_on(model, common, None, seen, more=max(map(len, rest)))
    read.keep([row for row, group in enumerate(groups) for _ in group])
    return read_on(model, rest, read)


def _pixels(assistant: Assistant, images: Sequence[bytes], max_pixels: int) -> list[Tensor]:
    """(1, 3, height, width) of each. Few photos are decoded at a time: pixel values are small, photos are not.

    A GPU waits for them; on a CPU threads would take the cores that the model computes on.
    """

    def read(image: bytes) -> Tensor:
        return pixel_values([decode(image, max_pixels)], assistant.image_processor, assistant.image)

    if assistant.model.device.type != "cuda":
        return list(map(read, images))
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, images))


def _num_shared(prompts: Sequence[Sequence[int]]) -> int:
    """How many tokens all prompts begin with."""
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))


def read_on(
    model: Any,
    ids: Sequence[Sequence[int]],
    before: Prefilled | None,
    seen: Mapping[str, Any] | None = None,
    more: int = 0,
) -> Prefilled:
    """Let the model read one more piece of each row.

    seen: the images, where `before` has not read them. more: tokens that follow the first piece.
    """
    device = model.device
    length = max(map(len, ids))
    padding = 0 if model.config.image_token_id else 1  # any token but the image's, whose number is checked
    tokens = torch.tensor([[padding] * (length - len(row)) + list(row) for row in ids], device=device)
    fresh = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in ids], device=device)
    mask = fresh if before is None else torch.cat([before.mask, fresh], dim=1)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -length:]
    if before is not None and before.weights is not None:
        seen = {ARGUMENT: before.weights}
    seen = seen or {}
    output = model(
        input_ids=tokens,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=before.cache if before else roomy_cache(model.config, more),
        use_cache=True,
        logits_to_keep=1,
        **seen,
    )
    return Prefilled(output.past_key_values, mask, output.logits[:, -1], seen.get(ARGUMENT))


def decode_greedily(model: Any, read: Prefilled, stops: frozenset[int], max_new_tokens: int) -> list[list[int]]:
    """The likeliest token of each row, again and again; the answers' tokens without their end mark.

    On a GPU over a cache of fixed shapes (stepped.py), elsewhere over one that grows: the tokens are the same.
    """
    in_steps = model.device.type == "cuda" and can_decode_in_steps(model, read)
    return (decode_in_steps if in_steps else decode_growing)(model, read, stops, max_new_tokens)


def decode_growing(model: Any, read: Prefilled, stops: frozenset[int], max_new_tokens: int) -> list[list[int]]:
    """Each token behind the ones before; rows that have ended leave the batch."""
    answers: list[list[int]] = [[] for _ in range(len(read.mask))]
    row_of = list(range(len(answers)))  # row of the batch -> answer
    going = set(row_of)
    for step in range(max_new_tokens):
        tokens = read.logits.argmax(dim=-1).tolist()
        for number, token in zip(row_of, tokens, strict=True):
            if token in stops:
                going.discard(number)
            elif number in going:
                answers[number].append(token)
        if not going or step + 1 == max_new_tokens:
            break
        if len(going) <= SHRINK_AT * len(row_of):
            kept = [row for row, number in enumerate(row_of) if number in going]
            read.keep(kept)
            row_of, tokens = [row_of[row] for row in kept], [tokens[row] for row in kept]
        read = read_on(model, [[token] for token in tokens], read)
    return answers
