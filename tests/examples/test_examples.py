"""The programs of examples/, run on tiny models with random weights."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnx.numpy_helper import from_array
from PIL import Image
from tokenizers import pre_tokenizers
from transformers import AutoImageProcessor, AutoModelForCausalLM, AutoTokenizer, Dinov2Config, Dinov2Model

from components.model.assemble import build, trainable_groups
from components.model.base import load_base
from components.model.weights import save_parts
from components.params import Params
from tests.evaluation.offline.layouts import LABELS, jsonl, pope
from tests.models import tiny_pieces, write_tiny_base
from tools.markdown import ROOT

PROGRAMS = sorted((ROOT / "examples").glob("*.py"))


def program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / "examples" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("language")
    _, language, tokenizer, _ = tiny_pieces()
    language.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_dual_lora_learns_and_is_saved(language_model: str, tmp_path: Path) -> None:
    losses = program("dual_lora").main(language_model, str(tmp_path), steps=12, rank=4)
    assert sum(losses[-3:]) < sum(losses[:3])
    assert (tmp_path / "adapter_model.safetensors").is_file()


def test_dual_lora_is_twenty_lines() -> None:
    (main,) = [
        node
        for node in ast.parse((ROOT / "examples/dual_lora.py").read_text()).body
        if isinstance(node, ast.FunctionDef)
    ]
    assert main.end_lineno
    assert main.end_lineno - main.lineno <= 20


def test_shared_prefixes_train_inside_the_trainer(language_model: str) -> None:
    losses = program("shared_prefix_trainer").main(language_model, steps=12)
    assert len(losses) == 12
    assert sum(losses[-3:]) < sum(losses[:3])


def test_heat_map_is_drawn(params: Params, tmp_path: Path) -> None:
    base = load_base(write_tiny_base(tmp_path / "base"))
    vce = params.vce.model_copy(update={"levels": [-2, -3], "num_heads": 2, "num_points": 2})
    model, wrapped = build(base, vce, params.adapter)
    weights = {name: p.detach() for group in trainable_groups(model).values() for name, p in group}
    settings = {"base": base.reference, "vce": vce.model_dump(), "adapter": params.adapter.model_dump()}
    (tmp_path / "parts").mkdir()
    save_parts(tmp_path / "parts", settings, weights, wrapped)
    Image.new("RGB", (40, 30), (200, 90, 10)).save(tmp_path / "photo.png")
    paths = [str(tmp_path / name) for name in ("photo.png", "map.png", "base", "parts")]
    program("cue_heat_map").main(*paths)
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.width > 600


def test_answers_are_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = pope(tmp_path / "pope", [("random", image, text) for image, text, _ in LABELS], {"random": LABELS})
    said = [
        {"question_id": 100 + number, "prompt": text, "text": label} for number, (_, text, label) in enumerate(LABELS)
    ]
    answers = jsonl(tmp_path / "answers.jsonl", said)
    metrics = program("score_answers").main(str(files["questions"]), str(files["annotations"]), str(answers))
    assert metrics["pope_random"]["f1"] == 100
    assert "100" in capsys.readouterr().out


def write_gguf(path: Path, width: int = 32) -> np.ndarray:
    """A llama of one block with random weights, in F32, and a byte-level tokenizer; returns its embeddings."""
    generator = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_block_count, 1),
        (writer.add_context_length, 64),
        (writer.add_embedding_length, width),
        (writer.add_feed_forward_length, 64),
        (writer.add_head_count, 2),
        (writer.add_head_count_kv, 2),
    ):
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = ["<s>", "</s>", *alphabet, alphabet[0] + alphabet[1]]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
    writer.add_token_merges([f"{alphabet[0]} {alphabet[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    square, wide = (width, width), (64, width)
    shapes = {"token_embd": (len(tokens), width), "output": (len(tokens), width), "output_norm": (width,)}
    shapes |= {f"blk.0.attn_{name}": square for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": wide, "blk.0.ffn_up": wide, "blk.0.ffn_down": wide[::-1]}
    shapes |= {"blk.0.attn_norm": (width,), "blk.0.ffn_norm": (width,)}
    values = {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, value in values.items():
        writer.add_tensor(f"{name}.weight", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values["token_embd"]


def test_gguf_becomes_a_folder(tmp_path: Path) -> None:
    embeddings = write_gguf(tmp_path / "tiny.gguf")
    program("gguf_to_folder").main(str(tmp_path / "tiny.gguf"), str(tmp_path / "out"))
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    np.testing.assert_array_equal(model.get_input_embeddings().weight.detach().numpy(), embeddings)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").is_fast
    before = (tmp_path / "out" / "model.safetensors").stat()
    with pytest.raises(SystemExit, match="out is there already; give a new folder"):
        program("gguf_to_folder").main(str(tmp_path / "tiny.gguf"), str(tmp_path / "out"))
    assert (tmp_path / "out" / "model.safetensors").stat() == before


OLD_NAMES = {"q_proj": "attention.query", "k_proj": "attention.key", "v_proj": "attention.value"}


def write_onnx(path: Path, model: Dinov2Model) -> None:
    """The weights as torch's export lays them out: linear ones transposed, known by the node that reads them."""
    tensors, nodes = [], []
    for name, weight in model.state_dict().items():
        for new, old in {**OLD_NAMES, "attention.o_proj": "attention.output.dense"}.items():
            name = name.replace(new, old)
        value = weight.numpy()
        if name == "embeddings.mask_token":
            continue
        if name == "embeddings.position_embeddings":
            tensors += [from_array(value[:, :1], "onnx::Concat_1"), from_array(value[:, 1:], "onnx::Reshape_2")]
        elif value.ndim == 2:
            stored = f"onnx::MatMul_{len(nodes)}"
            tensors.append(from_array(np.ascontiguousarray(value.T), stored))
            node = f"/backbone/{name.removesuffix('.weight').replace('.', '/')}/MatMul".replace("layer/", "layer.")
            nodes.append(helper.make_node("MatMul", [f"in{len(nodes)}", stored], [f"out{len(nodes)}"], node))
        else:
            tensors.append(from_array(value, f"backbone.{name}"))
    tensors.append(from_array(np.zeros((2, 2), np.float32), "decoder.weight"))
    onnx.save(helper.make_model(helper.make_graph(nodes, "tests", [], [], tensors)), path)


def test_onnx_becomes_a_folder(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 4}
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**sizes, image_size=12)).eval()
    write_onnx(tmp_path / "tiny.onnx", model)
    program("onnx_to_dinov2").main(str(tmp_path / "tiny.onnx"), str(tmp_path / "out"), heads=2, side=8)
    read = Dinov2Model.from_pretrained(tmp_path / "out").eval()
    pixels = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(read(pixels).last_hidden_state, model(pixels).last_hidden_state)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    assert processor(images=[Image.new("RGB", (20, 30))])["pixel_values"][0].shape == (3, 8, 8)
    with pytest.raises(SystemExit, match="out is there already; give a new folder"):
        program("onnx_to_dinov2").main(str(tmp_path / "tiny.onnx"), str(tmp_path / "out"), heads=2, side=8)


def test_every_example_is_listed_and_run() -> None:
    listed = (ROOT / "examples/README.md").read_text("utf-8")
    tests = Path(__file__).read_text("utf-8")
    for path in PROGRAMS:
        assert f"({path.name})" in listed
        assert f'program("{path.stem}")' in tests
