"""The messages of a request, as OpenAI's clients and others send them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from components.serving.chat import ChatRequest, Refused, parse_chat, parse_json
from components.serving.limits import Limits
from tests.serving.running import data_url

TEXT = {"type": "text", "text": "What?"}


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def parsed(*messages: Any, **fields: Any) -> ChatRequest:
    return parse_chat({"model": "lea", "messages": list(messages), **fields}, Limits())


def asked(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_history_holds_answers_as_the_client_has_them():
    answer = ChatCompletionMessage.model_validate(
        {
            "role": "assistant",
            "content": "A",
            "annotations": [],
            "audio": None,
            "function_call": None,
            "tool_calls": None,
        }
    ).model_dump()
    assert {"refusal", "annotations", "audio", "function_call", "tool_calls"} <= set(answer)
    request = parsed(asked(image(data_url()), TEXT), answer, asked({"type": "text", "text": "And?"}))
    assert [turn.text for turn in request.turns] == ["What?", "A", "And?"]


@pytest.mark.parametrize("field", [{"tool_calls": [{"id": "1"}]}, {"audio": {"id": "1"}}, {"weight": 0}])
def test_field_of_a_message_that_says_something_is_refused_by_name(field: dict[str, Any]):
    with pytest.raises(Refused, match=f'"{next(iter(field))}" can only be empty'):
        parsed(asked(TEXT), {"role": "assistant", "content": "A", **field}, asked(TEXT))


def test_fields_that_change_no_answer_are_taken():
    new = {"safety_identifier": "ada", "prompt_cache_key": "k", "stream_options": {"include_obfuscation": False}}
    assert parsed(asked(TEXT), user="ada", **new).turns[0].text == "What?"
    for field in ({"safety_identifier": 7}, {"stream_options": {"include_obfuscation": True}}):
        with pytest.raises(Refused, match="must be"):
            parsed(asked(TEXT), **field)


def test_field_of_the_request_that_is_null_is_as_good_as_absent():
    assert parsed(asked(TEXT), reasoning_effort=None, functions=None).image is None
    with pytest.raises(Refused, match="unknown field"):
        parsed(asked(TEXT), reasoning_effort="low")


@pytest.mark.parametrize("prefix", ["data:image/png;base64,", "DATA:image/PNG;BASE64,", " data:image/png; base64,"])
def test_scheme_of_a_data_url_is_read_in_any_capitals(prefix: str):
    expected = parsed(asked(image(data_url()), TEXT)).image
    assert expected
    assert parsed(asked(image(prefix + data_url().partition(",")[2]), TEXT)).image == expected


def test_image_that_is_sent_again_is_one():
    sent, answer = image(data_url()), {"role": "assistant", "content": "A"}
    request = parsed(asked(sent, sent, TEXT), answer, asked(sent, TEXT))
    assert (len(request.turns), request.image is not None) == (3, True)
    with pytest.raises(Refused, match="an image belongs to the first user message"):
        parsed(asked(sent, TEXT), answer, asked(image(data_url(size=(9, 9))), TEXT))


def test_a_body_of_many_small_things_is_refused_before_it_is_read():
    """20 MB of them held the interpreter for 5 seconds: nobody else was answered."""
    for small in (b"[],", b'{"a":{}},', b"1,", b'"",'):
        began = time.monotonic()
        with pytest.raises(Refused, match="more than 100,000 lists, objects and commas") as refused:
            parse_json(b'{"messages":[' + small * (15_000_000 // len(small)) + b"1]}")
        assert refused.value.status == 413
        assert time.monotonic() - began < 1
    assert parse_json(b'{"a":"' + b"," * 33_000 + b'"}')["a"]


def test_messages_are_counted():
    with pytest.raises(Refused, match=r"there are 600,000 messages; at most 1,024 are read"):
        parsed(*[{"role": "system", "content": ""}] * 600_000)
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant")] * 511
    assert len(parsed(*turns, asked(TEXT)).turns) == 1023


def test_texts_are_joined_as_in_training():
    system = [{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}]
    request = parsed(*system, asked(TEXT, {"type": "text", "text": "Briefly."}))
    assert request.turns[0].text == "What? Briefly."
    assert request.system == "Be brief.\n\nBe kind."
