"""A tiny LLaVA with random weights, and small pictures."""

import io
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from components.evaluation.inference.assistant import Assistant
from tests.judge_server import Server

WORDS = [f"word{number}" for number in range(60)]


@pytest.fixture(scope="session")
def assistant() -> Assistant:
    """Its 64 tokens are words; answers of most prompts end by themselves, some never."""
    vocabulary = {word: number for number, word in enumerate(["<image>", "</s>", "<s>", "<unk>", *WORDS])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="</s>",
        bos_token="<s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=4,
            num_attention_heads=2,
            image_size=24,
            patch_size=8,
        ),
        text_config=LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            eos_token_id=1,
        ),
        image_token_id=0,  # pyright: ignore[reportCallIssue] -- the attribute's own name, which the signature lacks
        image_seq_length=9,
    )
    torch.manual_seed(3)
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():  # louder than the usual start, so that answers differ and some end early
        if parameter.ndim > 1:
            parameter.data.mul_(6)
    model.lm_head.weight.data[1] *= 2
    model.generation_config.eos_token_id = 1
    model.generation_config.pad_token_id = 1
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    return Assistant(model, tokenizer, processor, "v1", "pad")


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """PNG bytes of a small image of noise, by number."""

    def draw(number: int) -> bytes:
        pixels = np.random.default_rng(number).integers(0, 255, (20, 26, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    return draw


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()
    thread = threading.Thread(target=served.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    monkeypatch.setenv("OPENAI_BASE_URL", served.url)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    yield served
    served.http.shutdown()
    served.http.server_close()
    thread.join()
