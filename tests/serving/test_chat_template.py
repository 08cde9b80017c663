"""The exported chat template writes the prompts that `lea serve` writes, for the same messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jinja2
import pytest
from jinja2 import nodes
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from components.batching.conversation import Encoder
from components.serving.chat import parse_chat
from components.serving.chat_template import v1_template
from components.serving.limits import Limits
from tests.serving.running import data_url

IMAGE = {"type": "image"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def said(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": content[0] if isinstance(content[0], str) else list(content)}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    tokens = ["<unk>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw: Any = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>"))
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", unk_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.chat_template = v1_template()
    return Encoder(tokenizer, "v1", len(tokenizer) - 1, 1)


def served(encoder: Encoder, messages: list[dict[str, Any]]) -> list[int]:
    """The tokens of the prompt that `lea serve` asks its model with."""
    whole = [
        message if isinstance(message["content"], str) else
        {**message, "content": [{"type": "image_url", "image_url": {"url": data_url()}} if part == IMAGE else part
                                for part in message["content"]]}
        for message in messages
    ]  # fmt: skip
    asked = parse_chat({"model": "lea", "messages": whole}, Limits())
    if asked.system is not None:
        encoder = replace(encoder, system=asked.system)
    return encoder.encode(asked.turns, asked.image is not None, 10**6).ids


@pytest.mark.parametrize(
    "messages",
    [
        [said("user", "What?")],
        [said("user", IMAGE, text("What?"))],
        [said("user", text(" What? \n"), IMAGE)],
        [said("user", text(" What? "))],
        [said("user", IMAGE, text("What?"), text("Briefly."))],
        [said("system", "Be kind."), said("user", "What?")],
        [said("system", text("Be kind.")), said("developer", "Be brief."), said("user", IMAGE, text("What?"))],
        [said("system", ""), said("user", "What?")],
        [said("user", IMAGE, text("What?")), said("assistant", "It's soup."), said("user", "Sure?")],
        [said("user", IMAGE, text("What?")), said("assistant", text("It's soup.")), said("user", text("Sure?"))],
    ],
)
def test_prompts_are_those_of_lea_serve(encoder, messages):
    prompt = encoder.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert encoder.tokenizer(prompt, add_special_tokens=False)["input_ids"] == served(encoder, messages)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([said("user", "What?"), said("tool", "4")], "roles must be"),
        ([said("user", "What?"), said("user", "Now?")], "roles must be"),
        ([said("user", "What?"), said("assistant", "Soup."), said("system", "Be kind.")], "roles must be"),
        ([said("user", IMAGE, IMAGE, text("What?"))], "one image"),
        ([said("user", "What?"), said("assistant", "Soup."), said("user", IMAGE, text("And this?"))], "one image"),
        ([said("user", {"type": "audio"}, text("What?"))], "must be text or an image"),
    ],
)
def test_what_lea_serve_refuses_is_refused(encoder, messages, why):
    with pytest.raises(jinja2.TemplateError, match=why):
        encoder.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)


def test_vllm_finds_that_content_is_a_list_of_parts():
    """It looks for a loop over the content of a message that a loop over the messages gives."""
    tree = jinja2.Environment().parse(v1_template())
    (outer,) = [
        loop for loop in tree.find_all(nodes.For)
        if isinstance(loop.iter, nodes.Name) and loop.iter.name == "messages"
    ]  # fmt: skip
    read: list[Any] = [loop.iter for loop in outer.find_all(nodes.For) if isinstance(loop.iter, nodes.Getitem)]
    assert [(one.node.name, one.arg.value) for one in read] == [("message", "content")]
