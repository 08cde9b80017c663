from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from components.batching.conversation import IGNORED, SYSTEM, Encoded, Encoder
from components.data.schema import Turn
from components.errors import UserError
from tests.models import SPECIALS, tiny_tokenizer, wrapped

PLACES = 5  # image tokens


def metaspace_tokenizer() -> Any:
    """SentencePiece-like: a Unigram model with a mark for each space, bytes for what it does not know."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace()  # pyright: ignore
    core.decoder = decoders.Metaspace()  # pyright: ignore
    texts = [f"{SYSTEM} USER: what ASSISTANT: rice and beans"] * 10
    core.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=120, special_tokens=[*SPECIALS, "<unk>"], unk_token="<unk>")
    )
    return wrapped(core, unk_token="<unk>")


def word_tokenizer() -> Any:
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))  # pyright: ignore
    core.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    core.train_from_iterator(
        ["USER : what ASSISTANT rice and beans"], trainers.WordLevelTrainer(special_tokens=[*SPECIALS, "<unk>"])
    )
    return wrapped(core, unk_token="<unk>")


TOKENIZERS = {"bytes": tiny_tokenizer(), "metaspace": metaspace_tokenizer(), "words": word_tokenizer()}
WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
AWKWARD = st.sampled_from(
    ["</s>", "a </s> b", "<image>x", "USER: no ASSISTANT: yes", " lead", "trail ", "\n", "é\u0301", "🍚🥣", "<pad>"]
)
ANSWERS = st.one_of(WORDS, AWKWARD).filter(lambda text: text.strip() != "")


def encoder(name: str, template: Any = "v1") -> Encoder:
    tokenizer = TOKENIZERS[name]
    return Encoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), PLACES)


def labels_of(encoded: Encoded) -> list[int]:
    return [label for label in encoded.labels if label != IGNORED]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(dialogue=st.lists(st.tuples(WORDS, ANSWERS), min_size=1, max_size=3), has_image=st.booleans())
def test_supervised_are_the_answers_and_their_end_marks(
    name: str, dialogue: list[tuple[str, str]], has_image: bool
) -> None:
    own = encoder(name)
    turns = [turn for asked, told in dialogue for turn in (Turn("human", asked), Turn("assistant", told))]
    encoded = own.encode(turns, has_image, 100_000)
    eos = own.tokenizer.eos_token_id
    # one end mark for each answer, never one that a person wrote
    assert [label for label in encoded.labels if label == eos] == [eos] * len(dialogue)
    assert encoded.ids.count(eos) == len(dialogue)
    assert encoded.ids.count(own.image_token) == (PLACES if has_image else 0)
    if name == "bytes":  # the one of the three that gives every text back
        ends = [n for n, label in enumerate(encoded.labels) if label == eos]
        start = 0
        for end, (_, told) in zip(ends, dialogue, strict=True):
            text = own.tokenizer.decode([label for label in encoded.labels[start:end] if label != IGNORED])
            assert text.endswith(told)
            assert text.removesuffix(told) in ("", " ")  # a token may hold the space before its word
            start = end + 1


def in_context(name: str, dialogue: list[tuple[str, str]]) -> tuple[list[int], list[int]]:
    """What v1 must give, from the text as a whole: a token is supervised if a character of it is the answer's."""
    tokenizer = TOKENIZERS[name]
    ids, labels = [tokenizer.bos_token_id], [IGNORED]
    for number, (asked, told) in enumerate(dialogue):
        text = f"{SYSTEM} USER: {asked} ASSISTANT: {told}" if number == 0 else f"USER: {asked} ASSISTANT: {told}"
        found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for token, (start, end) in zip(found["input_ids"], found["offset_mapping"], strict=True):
            inside = any(place >= len(text) - len(told) for place in range(start, end))
            ids.append(token)
            labels.append(token if inside else IGNORED)
        ids.append(tokenizer.eos_token_id)
        labels.append(tokenizer.eos_token_id)
    return ids, labels


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(dialogue=st.lists(st.tuples(WORDS, ANSWERS), min_size=1, max_size=3))
def test_supervised_are_exactly_the_tokens_with_characters_of_an_answer(
    name: str, dialogue: list[tuple[str, str]]
) -> None:
    assume(not any(mark in text for pair in dialogue for text in pair for mark in [*SPECIALS, "<unk>"]))
    own = encoder(name)
    turns = [turn for asked, told in dialogue for turn in (Turn("human", asked), Turn("assistant", told))]
    encoded = own.encode(turns, False, 100_000)
    assert (encoded.ids, encoded.labels) == in_context(name, dialogue)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(asked=WORDS, told=st.one_of(ANSWERS, st.sampled_from(["rice", "rice and beans", "what beans", "beans  rice"])))
def test_labels_spell_the_answer_wherever_the_tokenizer_can(name: str, asked: str, told: str) -> None:
    assume(not any(mark in told for mark in SPECIALS))  # alone the tokenizer would take it for the token
    own = encoder(name)
    back = own.tokenizer.decode(own.tokenizer(told, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    assume(back == told)
    encoded = own.encode([Turn("human", asked), Turn("assistant", told)], False, 100_000)
    spelt = own.tokenizer.decode(labels_of(encoded)[:-1])
    assert spelt in (told, f" {told}")  # a token may hold the space before its word


def test_system_prompt_may_be_empty() -> None:
    own = dataclasses.replace(encoder("bytes"), system="")
    encoded = own.encode([Turn("human", "what"), Turn("assistant", "rice")], False, 1000)
    assert own.tokenizer.decode(encoded.ids) == "<s>USER: what ASSISTANT: rice</s>"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_questions_and_template_are_never_supervised(name: str) -> None:
    own = encoder(name)
    encoded = own.encode([Turn("human", "what"), Turn("assistant", "rice")], True, 1000)
    first = next(n for n, label in enumerate(encoded.labels) if label != IGNORED)
    assert all(label == IGNORED for label in encoded.labels[:first])
    assert all(label != IGNORED for label in encoded.labels[first:])


def test_v1_is_llavas_text() -> None:
    own = encoder("bytes")
    turns = [
        Turn("human", "What is it?\n<image>"),
        Turn("assistant", "Rice."),
        Turn("human", "Sure?"),
        Turn("assistant", "Yes."),
    ]
    text = own.tokenizer.decode(own.encode(turns, True, 1000).ids)
    image = "<image>" * PLACES
    assert text == f"<s>{SYSTEM} USER: {image}\nWhat is it? ASSISTANT: Rice.</s>USER: Sure? ASSISTANT: Yes.</s>"


def test_plain_keeps_the_caption_alone() -> None:
    own = encoder("bytes", "plain")
    encoded = own.encode([Turn("human", "Describe it.\n<image>"), Turn("assistant", "A plate.")], True, 1000)
    assert own.tokenizer.decode(encoded.ids) == "<s>" + "<image>" * PLACES + "A plate.\n"
    assert own.tokenizer.decode(labels_of(encoded)) == "A plate.\n"


def test_first_token_is_never_predicted() -> None:
    # without an image's places and a beginning mark a caption stands at the very start
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = None
    made = Encoder(tokenizer, "plain", tokenizer.convert_tokens_to_ids("<image>"), 0)
    encoded = made.encode([Turn("human", "<image>"), Turn("assistant", "rice and beans")], True, 50)
    assert encoded.labels == [IGNORED, *encoded.ids[1:]]
    assert made.is_trainable(encoded, True)


def test_prompt_is_the_beginning_of_the_trained_conversation() -> None:
    own = encoder("bytes")
    whole = own.encode([Turn("human", "What is on the plate?"), Turn("assistant", "Rice")], True, 1000)
    prompt = own.prompt("What is on the plate?", True)
    assert whole.ids[: len(prompt)] == prompt
    assert whole.labels[len(prompt)] != IGNORED


def test_cut_sample_is_not_trained_on() -> None:
    own = encoder("bytes")
    turns = [Turn("human", "what"), Turn("assistant", "rice and beans")]
    whole = own.encode(turns, True, 1000)
    assert own.is_trainable(whole, True)
    first = next(n for n, label in enumerate(whole.labels) if label != IGNORED)
    assert not own.is_trainable(own.encode(turns, True, first), True)  # no answer left
    inside = whole.ids.index(own.image_token) + 2
    assert not own.is_trainable(Encoded(whole.ids[:inside], whole.ids[:inside]), True)  # image cut


def test_padding_token_equal_to_end_token_does_not_hide_the_end() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    own = Encoder(tokenizer, "v1", tokenizer.convert_tokens_to_ids("<image>"), PLACES)
    encoded = own.encode([Turn("human", "what"), Turn("assistant", "rice")], False, 1000)
    assert encoded.labels[-1] == tokenizer.eos_token_id


def test_chat_template_of_the_base_is_used() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
    )
    own = Encoder(tokenizer, "chat", tokenizer.convert_tokens_to_ids("<image>"), PLACES)
    encoded = own.encode([Turn("human", "a </s>?"), Turn("assistant", "b </s>!")], True, 1000)
    image = "<image>" * PLACES
    assert tokenizer.decode(encoded.ids) == f"<s>user\n{image}\na </s>?</s>\n<s>assistant\nb </s>!</s>\n"
    assert tokenizer.decode(labels_of(encoded)) == "b </s>!</s>"
    assert tokenizer.decode(own.prompt("hi", False)) == "<s>user\nhi</s>\n<s>assistant\n"


def test_tokenizer_without_offsets_is_refused_by_name() -> None:
    class SlowTokenizer:
        is_fast = False

    with pytest.raises(UserError, match="SlowTokenizer gives no character offsets"):
        Encoder(SlowTokenizer(), "v1", 3, PLACES)
