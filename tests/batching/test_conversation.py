from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer

from components.batching.conversation import IGNORED, SYSTEM, Encoded, Encoder
from components.data.schema import Turn
from components.errors import UserError
from tests.models import SPECIALS, tiny_tokenizer, wrapped

PLACES = 5  # image tokens


def metaspace_tokenizer(prepend_scheme: str = "always") -> Any:
    """SentencePiece-like: a Unigram model with a mark for each space, bytes for what it does not know."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme)  # pyright: ignore
    core.decoder = decoders.Metaspace()  # pyright: ignore
    texts = [f"{SYSTEM} USER: what ASSISTANT: rice and beans"] * 10
    core.train_from_iterator(
        texts, trainers.UnigramTrainer(vocab_size=120, special_tokens=[*SPECIALS, "<unk>"], unk_token="<unk>")
    )
    return wrapped(core, unk_token="<unk>")


def llama_tokenizer(legacy: bool) -> Any:
    """Llama's: BPE over the whole text, a mark for each space, bytes for what it does not know."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))  # pyright: ignore
    core.pre_tokenizer = pre_tokenizers.Metaspace(split=True)  # pyright: ignore
    specials = [*SPECIALS, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    texts = [f"{SYSTEM} USER: what ASSISTANT: rice and beans"] * 10
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=420, special_tokens=specials))
    tree = json.loads(core.to_str())["model"]
    made = LlamaTokenizer(
        tree["vocab"], [tuple(pair) for pair in tree["merges"]], legacy=legacy, add_bos_token=True, pad_token="<pad>"
    )
    made.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return made


def greedy_tokenizer() -> Any:
    """Byte-level, with tokens for several line breaks and blanks: an answer's first may join the prompt's last."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    core.decoder = decoders.ByteLevel()  # pyright: ignore
    texts = ["assistant\n\nRice\n\n\n  ASSISTANT: 97 g"] * 20
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIALS, initial_alphabet=alphabet)
    )
    return wrapped(core)


def word_tokenizer() -> Any:
    core = Tokenizer(models.WordLevel(unk_token="<unk>"))  # pyright: ignore
    core.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    core.train_from_iterator(
        ["USER : what ASSISTANT rice and beans"], trainers.WordLevelTrainer(special_tokens=[*SPECIALS, "<unk>"])
    )
    return wrapped(core, unk_token="<unk>")


TOKENIZERS = {
    "bytes": tiny_tokenizer(),
    "greedy": greedy_tokenizer(),
    "metaspace": metaspace_tokenizer(),
    "metaspace first": metaspace_tokenizer("first"),
    "llama": llama_tokenizer(legacy=False),
    "legacy llama": llama_tokenizer(legacy=True),
    "words": word_tokenizer(),
}
MESSAGES = "{% for m in messages %}"
TEMPLATES = {
    "role and line": MESSAGES + "<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}",
    "blank before the answer": "<s>" + MESSAGES + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}",
    "thought before the answer": MESSAGES + "{{ m.role }}:\n{% if m.role == 'assistant' %}<think>\n\n</think>\n"
    "{% endif %}{{ m.content }}\n</s>{% endfor %}{% if add_generation_prompt %}assistant:\n{% endif %}",
}
# As Qwen3's: the thought stands in the last answer alone, so that an earlier open prompt is no beginning of the whole.
THINKING = (
    MESSAGES + "<s>{{ m.role }}\n{% if m.role == 'assistant' and loop.last %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
WORDS = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=30)
BEGINNINGS = ["97 g", "3", "米饭", "\n", "\n\nRice", "  2", " lead", "e\u0301", "🍚🥣"]
AWKWARD = st.sampled_from([*BEGINNINGS, "</s>", "a </s> b", "<image>x", "USER: no ASSISTANT: yes", "trail ", "<pad>"])
ANSWERS = st.one_of(WORDS, AWKWARD).filter(lambda text: text.strip() != "")


def encoder(name: str, template: Any = "v1") -> Encoder:
    tokenizer = TOKENIZERS[name]
    return Encoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), PLACES)


def chatting(name: str, template: str) -> Encoder:
    tokenizer = copy.deepcopy(TOKENIZERS[name])
    tokenizer.chat_template = TEMPLATES.get(template, template)
    return Encoder(tokenizer, "chat", tokenizer.convert_tokens_to_ids("<image>"), PLACES)


def turns_of(dialogue: list[tuple[str, str]]) -> list[Turn]:
    return [turn for asked, said in dialogue for turn in (Turn("human", asked), Turn("assistant", said))]


DIALOGUES = st.lists(st.tuples(WORDS, ANSWERS), min_size=1, max_size=3)
CODES = {
    **{f"v1, {name}": encoder(name) for name in TOKENIZERS},
    **{f"plain, {name}": encoder(name, "plain") for name in TOKENIZERS},
    **{f"{template}, {name}": chatting(name, template) for template in TEMPLATES for name in TOKENIZERS},
}


@pytest.mark.parametrize("name", CODES)
@settings(max_examples=25, deadline=None)
@given(dialogue=DIALOGUES, has_image=st.booleans())
def test_what_the_open_prompt_does_not_hold_is_supervised_up_to_the_end_mark(
    name: str, dialogue: list[tuple[str, str]], has_image: bool
) -> None:
    own = CODES[name]
    turns = turns_of(dialogue[:1] if own.template == "plain" else dialogue)
    whole = own.encode(turns, has_image, 100_000)
    expected = [IGNORED] * len(whole.ids)
    for answer in range(1, len(turns), 2):
        opened = own.encode(turns[:answer], has_image, 100_000).ids
        assert whole.ids[: len(opened)] == opened
        end = (
            len(whole.ids) - 1 if own.template == "plain" else whole.ids.index(own.tokenizer.eos_token_id, len(opened))
        )
        expected[len(opened) : end + 1] = whole.ids[len(opened) : end + 1]
    assert whole.labels == expected


def test_a_token_over_the_end_of_the_open_prompt_is_taken_apart() -> None:
    own = chatting("greedy", "role and line")
    tokenizer = own.tokenizer
    alone = tokenizer.convert_ids_to_tokens(tokenizer("assistant\n\nRice", add_special_tokens=False)["input_ids"])
    assert alone == ["assistantĊĊRice"]  # one token, and no model that is given `assistant` and a line break writes it
    encoded = own.encode(turns_of([("what", "\nRice")]), False, 1000)
    prompt = own.encode([Turn("human", "what")], False, 1000).ids
    assert encoded.ids[: len(prompt)] == prompt
    assert tokenizer.decode(labels_of(encoded)) == "\nRice</s>"


def test_special_tokens_that_take_the_blanks_around_them_do_so_here_too() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(AddedToken("<|end|>", rstrip=True, lstrip=True, special=True), special_tokens=True)
    tokenizer.chat_template = MESSAGES + "{{ m.role }}<|end|>\n{{ m.content }} <|end|>\n{% endfor %}"
    tokenizer.chat_template += "{% if add_generation_prompt %}assistant<|end|>\n{% endif %}"
    own = Encoder(tokenizer, "chat", tokenizer.convert_tokens_to_ids("<image>"), PLACES)
    encoded = own.encode(turns_of([("what", "rice ")]), False, 1000)
    whole = "user<|end|>\nwhat <|end|>\nassistant<|end|>\nrice  <|end|>\n"
    assert encoded.ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(labels_of(encoded)) == "rice<|end|>"


@pytest.mark.parametrize("name", ["bytes", "greedy", "llama", "legacy llama"])
@pytest.mark.parametrize("said", ["3", "97 g", "米饭", "\nRice", "\n\n2", "rice"])
def test_what_a_perfect_model_decodes_is_the_answer(name: str, said: str) -> None:
    """A perfect model goes on from the open prompt with the labelled tokens."""
    chats = ("role and line", "blank before the answer", THINKING)
    for own in (encoder(name), *(chatting(name, template) for template in chats)):
        turns = turns_of([("What is it?", said)])
        prompt, whole = own.encode(turns[:1], False, 1000).ids, own.encode(turns, False, 1000)
        written = labels_of(whole)[: labels_of(whole).index(own.tokenizer.eos_token_id)]
        assert whole.ids[: len(prompt) + len(written)] == [*prompt, *written]
        grown = own.tokenizer.decode([*prompt, *written]).removeprefix(own.tokenizer.decode(prompt))
        assert grown.strip(" ") == said


def labels_of(encoded: Encoded) -> list[int]:
    return [label for label in encoded.labels if label != IGNORED]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(dialogue=st.lists(st.tuples(WORDS, ANSWERS), min_size=1, max_size=3), has_image=st.booleans())
def test_supervised_are_the_answers_and_their_end_marks(
    name: str, dialogue: list[tuple[str, str]], has_image: bool
) -> None:
    own = encoder(name)
    turns = [turn for asked, reply in dialogue for turn in (Turn("human", asked), Turn("assistant", reply))]
    encoded = own.encode(turns, has_image, 100_000)
    eos = own.tokenizer.eos_token_id
    # one end mark for each answer, never one that a person wrote
    assert [label for label in encoded.labels if label == eos] == [eos] * len(dialogue)
    assert encoded.ids.count(eos) == len(dialogue)
    assert encoded.ids.count(own.image_token) == (PLACES if has_image else 0)
    if name == "bytes":  # the one of the three that gives every text back
        ends = [n for n, label in enumerate(encoded.labels) if label == eos]
        start = 0
        for end, (_, reply) in zip(ends, dialogue, strict=True):
            text = own.tokenizer.decode([label for label in encoded.labels[start:end] if label != IGNORED])
            assert text.endswith(reply)
            assert text.removesuffix(reply) == " "  # the blank that v1 puts before an answer
            start = end + 1


@pytest.mark.parametrize("name", ["llama", "metaspace first"])
def test_after_an_end_mark_the_text_goes_on(name: str) -> None:
    """`USER`, not a blank and `USER`: so does the slow Llama tokenizer with legacy off, which LLaVA uses."""
    own = encoder(name)
    spelt = own.tokenizer.convert_ids_to_tokens(own.encode(turns_of([("a", "b"), ("c", "d")]), False, 1000).ids)
    assert spelt[spelt.index("</s>") + 1].startswith("U")
    assert spelt[1].startswith("▁")


@pytest.mark.parametrize("name", ["legacy llama", "metaspace"])
def test_after_an_end_mark_the_text_begins_again_where_the_tokenizer_says_so(name: str) -> None:
    own = encoder(name)
    spelt = own.tokenizer.convert_ids_to_tokens(own.encode(turns_of([("a", "b"), ("c", "d")]), False, 1000).ids)
    assert spelt[spelt.index("</s>") + 1].startswith("▁")


@pytest.mark.parametrize("name", [name for name in TOKENIZERS if name != "greedy"])
@settings(max_examples=25, deadline=None)
@given(dialogue=DIALOGUES)
def test_text_between_special_tokens_is_what_the_tokenizer_makes_of_the_whole(
    name: str, dialogue: list[tuple[str, str]]
) -> None:
    """Where no token reaches over the end of an open prompt, v1 and chat are the tokenizer's own reading."""
    assume(not any(mark in text for pair in dialogue for text in pair for mark in [*SPECIALS, "<unk>", "<0x"]))
    own, chat = encoder(name), chatting(name, "role and line")
    turns = turns_of(dialogue)
    text = f"{SYSTEM} " + "".join(f"USER: {asked} ASSISTANT: {said}</s>" for asked, said in dialogue)
    expected = own.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert own.encode(turns, False, 100_000).ids == [own.tokenizer.bos_token_id, *expected]
    messages = [{"role": "user" if turn.role == "human" else "assistant", "content": turn.text} for turn in turns]
    whole = chat.tokenizer.apply_chat_template(messages, tokenize=False)
    assert chat.encode(turns, False, 100_000).ids == chat.tokenizer(whole, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(asked=WORDS, reply=st.one_of(ANSWERS, st.sampled_from(["rice", "rice and beans", "what beans", "beans  rice"])))
def test_labels_spell_the_answer_wherever_the_tokenizer_can(name: str, asked: str, reply: str) -> None:
    assume(not any(mark in reply for mark in SPECIALS))  # alone the tokenizer would take it for the token
    own = encoder(name)
    back = own.tokenizer.decode(own.tokenizer(reply, add_special_tokens=False, split_special_tokens=True)["input_ids"])
    assume(back == reply)
    encoded = own.encode([Turn("human", asked), Turn("assistant", reply)], False, 100_000)
    spelt = own.tokenizer.decode(labels_of(encoded)[:-1])
    assert spelt in (reply, f" {reply}")  # a token may hold the space before its word


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


def test_no_start_token_where_the_tokenizer_adds_none() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel()  # GPT-2's: nothing before a text
    assert tokenizer.bos_token == "<s>"
    turns = [Turn("human", "Describe it.\n<image>"), Turn("assistant", "A plate.")]
    texts = {}
    for template in ("plain", "v1"):
        own = Encoder(tokenizer, template, tokenizer.convert_tokens_to_ids("<image>"), PLACES)
        encoded = own.encode(turns, True, 1000)
        texts[template] = tokenizer.decode(encoded.ids)
        assert own.is_trainable(encoded, True)
        assert own.prompt("Describe it.", True)[0] != tokenizer.bos_token_id
        assert own.prompt("Describe it.", False)
    assert texts["plain"] == "<image>" * PLACES + "A plate.\n"
    assert texts["v1"].startswith(SYSTEM)


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
