"""What `benchmarks.serving` serves and sends: a model with random weights, photos with questions, nonsense."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from components import params as settings_of
from components.model.assemble import build
from components.model.base import compose, load_base, save_base
from components.model.stored import model_digest
from components.model.weights import save_parts
from components.params import Params
from components.tracking import registry
from components.tracking.records import Record

SIDE, PATCH = 168, 14  # 144 image tokens
PHOTO = (640, 480)  # pixels
MODEL = "lea@champion"
WORDS = ("what", "is", "on", "this", "plate", "and", "how", "would", "you", "make", "it", "with", "beans", "or", "rice")


def write_versions(folder: Path, params: Params) -> list[int]:
    """Two versions on one base in the registry: LLM 256 wide, 6 blocks; encoder 192 wide, 8 blocks; Dual-LoRA, VCE."""
    torch.manual_seed(0)
    base = folder / "base"
    base.mkdir(parents=True)
    tokenizer = _tokenizer()
    vision = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=8,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=PATCH,
        )
    )
    language = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=6,
            num_attention_heads=4,
            vocab_size=len(tokenizer),
            max_position_embeddings=2048,
            eos_token_id=2,
        )
    )
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    model = compose(getattr(vision, "vision_model", vision), language, tokenizer, processor, seed=1)
    save_base(base, model, tokenizer, processor, "compose", "benchmark")
    return [_register(folder, base, seed, params) for seed in (1, 2)]


def _tokenizer() -> Any:
    tokens = ["<unk>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    raw = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, [], unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore
    raw.decoder = decoders.ByteLevel()  # pyright: ignore
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def _register(folder: Path, base: Path, seed: int, params: Params) -> int:
    torch.manual_seed(seed)
    vce = settings_of.Vce(
        enabled=True, anchor=-2, levels=[-2, -4, -6, -8], num_heads=4, num_points=4, scale=1.0, start="paper"
    )
    loaded = load_base(base)
    model, wrapped = build(loaded, vce, params.adapter)
    weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in weights.items():
        if "_up." in name:
            torch.nn.init.normal_(weight, std=0.1)
    parts = folder / f"parts_{seed}"
    parts.mkdir()
    settings = {
        "base": loaded.reference,
        "vce": vce.model_dump(),
        "adapter": params.adapter.model_dump(),
        "template": "v1",
        "image": "pad",
        "run": f"benchmark-{seed}",
        "data": {},
    }
    save_parts(parts, settings, weights, wrapped)
    measured = {"model": model_digest(parts), "data": {"benchmark": "none"}, "conditions": {}}
    return registry.register(parts, base, Record(measured, {}, {}, {}, "evaluate"), params).version


def photo(number: int) -> bytes:
    noise = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize(PHOTO).save(stream, "JPEG")
    return stream.getvalue()


def asks(images: int, questions: int, max_tokens: int) -> list[dict[str, Any]]:
    """Requests for chat completions: every photo's questions one after the other."""
    draw = random.Random(7)
    made = []
    for number in range(images):
        url = "data:image/jpeg;base64," + base64.b64encode(photo(number)).decode()
        for _ in range(questions):
            text = " ".join(draw.choices(WORDS, k=8)) + "?"
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
            messages = [{"role": "user", "content": content}]
            made.append({"model": MODEL, "max_tokens": max_tokens, "messages": messages})
    return made


def nonsense(count: int, seed: int = 0) -> list[bytes]:
    """Bodies of requests with something wrong in most of them: types, values, depth, images, bytes."""
    draw = random.Random(seed)
    good = asks(2, 2, 4)
    return [_spoiled(draw, json.loads(json.dumps(draw.choice(good)))) for _ in range(count)]


ODD: list[Any] = [
    None, True, 0, -1, 1e308, 2**70, "", "\x00", "\ud800", "<image>", "é" * 300, [], {}, [[]], {"type": "text"}, "NaN"
]  # fmt: skip


def _spoiled(draw: random.Random, tree: dict[str, Any]) -> bytes:
    content = tree["messages"][0]["content"]
    kind = draw.randrange(8)
    if kind == 0:
        tree[draw.choice([*tree, "temperature", "stream", "n", "stop", "tools", "seed", "x"])] = draw.choice(ODD)
    elif kind == 1:
        tree["messages"][0][draw.choice(["role", "content", "name"])] = draw.choice(ODD)
    elif kind == 2:
        content[draw.randrange(2)] = draw.choice(ODD)
    elif kind == 3:
        content[0]["image_url"] = draw.choice([*ODD, {"url": draw.choice(["/etc/passwd", "file:///etc/passwd", "x"])}])
    elif kind == 4:
        content[0]["image_url"]["url"] = "data:image/png;base64," + base64.b64encode(_image(draw)).decode()
    elif kind == 5:
        tree["messages"] *= draw.randrange(5)
    body = json.dumps(tree).encode()
    if kind == 6:
        place = draw.randrange(len(body))
        body = body[:place] + draw.randbytes(3) + body[place + draw.randrange(9) :]
    elif kind == 7:
        body = draw.choice([b"", b"[" * 50_000, b'{"a":' * 50_000, b"1" * 9_000, body[: draw.randrange(len(body))]])
    return body


def _image(draw: random.Random) -> bytes:
    """Bytes of a small picture of some kind and shape, whole or damaged."""
    size = draw.choice([(1, 1), (3000, 1), (1, 3000), (64, 48), (1500, 1500)])
    mode, kind = draw.choice(
        [("RGB", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"), ("P", "GIF"), ("L", "JPEG"), ("1", "TIFF")]
    )
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, kind)
    data = bytearray(stream.getvalue())
    for _ in range(draw.choice([0, 0, 1, 20])):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data[: draw.choice([len(data), len(data), len(data) // 2])])
