"""Bases whose tokenizer is a SentencePiece file alone, as Vicuna's and LLaVA's are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor, sentencepiece_model_pb2

from components.batching.conversation import IGNORED, SYSTEM, Encoder
from components.data.schema import Turn
from components.model.base import compose, load_base, load_tokenizer, save_base
from tests.models import sentencepiece_model, tiny_pieces

TURNS = [
    Turn("human", "What is\non the plate?"),
    Turn("assistant", "3 beans"),
    Turn("human", "Sure?"),
    Turn("assistant", "\nYes  "),
    Turn("human", "米"),
    Turn("assistant", "12"),
]


@pytest.fixture(params=[False, True], ids=["legacy off", "legacy on"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.model").write_bytes(sentencepiece_model())
    settings = {"tokenizer_class": "LlamaTokenizer", "legacy": request.param, "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def slow_ids(folder: Path, turns: list[Turn]) -> list[int]:
    """v1 by the SentencePiece library: what LLaVA's slow tokenizer makes of a conversation without image.

    A blank is put before every text between special tokens (legacy on), or before the first alone.
    """
    legacy = json.loads((folder / "tokenizer_config.json").read_text())["legacy"]
    protocol: Any = sentencepiece_model_pb2  # its classes are made while it is imported
    model = protocol.ModelProto.FromString((folder / "tokenizer.model").read_bytes())
    model.normalizer_spec.add_dummy_prefix = False
    pieces = SentencePieceProcessor(model_proto=model.SerializeToString())  # pyright: ignore[reportCallIssue]
    ids = [pieces.bos_id()]
    for number in range(0, len(turns), 2):
        system = f"{SYSTEM} " if number == 0 else ""
        blank = " " if legacy or number == 0 else ""
        text = f"{blank}{system}USER: {turns[number].text} ASSISTANT: {turns[number + 1].text}"
        ids += [*pieces.encode(text), pieces.eos_id()]
    return ids


def test_conversations_are_what_the_slow_tokenizer_makes_of_them(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder), "base.compose.language")
    encoded = Encoder(tokenizer, "v1", 9999, 4).encode(TURNS, False, 10_000)
    assert encoded.ids == slow_ids(folder, TURNS)


def test_no_start_token_where_the_files_say_so(folder: Path) -> None:
    config = folder / "tokenizer_config.json"
    for said in (True, False):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"add_bos_token": said}))
        tokenizer = load_tokenizer(str(folder), "base.compose.language")
        spelt = tokenizer.convert_ids_to_tokens(Encoder(tokenizer, "v1", 9999, 4).encode(TURNS, False, 10_000).ids)
        assert (spelt[0] == "<s>") is said


def test_a_lone_blank_before_a_digit_is_supervised(folder: Path) -> None:
    tokenizer = load_tokenizer(str(folder), "base.compose.language")
    encoded = Encoder(tokenizer, "v1", 9999, 4).encode(TURNS[:2], False, 10_000)
    learnt = tokenizer.convert_ids_to_tokens([label for label in encoded.labels if label != IGNORED])
    assert learnt[:2] == ["▁", "3"]
    assert learnt[-1] == "</s>"


def test_a_base_is_composed_with_a_sentencepiece_file_alone(folder: Path, tmp_path: Path) -> None:
    vision, language, _, processor = tiny_pieces()
    tokenizer = load_tokenizer(str(folder), "base.compose.language")
    base = tmp_path / "base"
    base.mkdir()
    save_base(base, compose(vision, language, tokenizer, processor, 0), tokenizer, processor, "compose", "tests")
    again = load_base(base).tokenizer
    encoders = [Encoder(one, "v1", one.convert_tokens_to_ids("<image>"), 4) for one in (tokenizer, again)]
    assert encoders[0].encode(TURNS, True, 10_000) == encoders[1].encode(TURNS, True, 10_000)
