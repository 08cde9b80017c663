"""Llama's blocks with kernels of their own: the same numbers, fewer launches; Triton's interpreter needs no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from components.model import blocks
from tests.adapters.test_fast import _Launches


class _Twins:
    """Stands in for the module of kernels: one launch each, computed by the plain twins out of the counter's sight."""

    def __init__(self) -> None:
        self.used = 0

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        norm = LlamaRMSNorm(len(weight), eps)
        norm.weight = nn.Parameter(weight, requires_grad=False)
        return self._launched(lambda: norm(x))

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return self._launched(lambda: nn.functional.silu(gate) * up)

    def rotated(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self._launched(lambda: apply_rotary_pos_emb(x, x, cos, sin)[0])

    def _launched(self, compute: Any) -> Tensor:
        self.used += 1
        with _disable_current_modes():
            result = compute()
        return result + 0


def _llama(attention: str = "sdpa") -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)  # type: ignore[arg-type]
    config._attn_implementation = attention
    return LlamaForCausalLM(config).eval().requires_grad_(False)


IDS = torch.arange(14).view(2, 7)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_fused_blocks_compute_the_same_in_fewer_launches(attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, fused, twins = _llama(attention), _llama(attention), _Twins()
    blocks.fuse(fused)
    monkeypatch.setattr(blocks, "_kernels", lambda like: twins)
    found, count = [], []
    for each in (model, fused):
        embedded = each.get_input_embeddings()(IDS).requires_grad_()
        with _Launches() as counter:
            logits = each(inputs_embeds=embedded, use_cache=False).logits
        count.append(counter.count)
        found.append((logits.detach(), torch.autograd.grad(logits.square().sum(), embedded)[0]))
    for wanted, has in zip(*found, strict=True):
        torch.testing.assert_close(has, wanted, rtol=1e-5, atol=1e-6)
    turned = 2 if attention == "sdpa" else 0  # eager attention is transformers' own
    assert twins.used == 2 * (2 + 1 + turned) + 1  # of a block: two norms, the gate, queries and keys; the last norm
    assert count[1] <= count[0] - 2 * (10 + 4 * turned)


def test_fused_blocks_decode_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, fused, twins = _llama(), _llama(), _Twins()
    blocks.fuse(fused)
    monkeypatch.setattr(blocks, "_kernels", lambda like: twins)
    answers = [each.generate(IDS, max_new_tokens=5, do_sample=False) for each in (model, fused)]
    assert torch.equal(*answers)
    assert twins.used


def test_cpus_and_trained_norms_run_transformers_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    model, fused = _llama(), _llama()
    blocks.fuse(fused)
    assert torch.equal(model(IDS).logits, fused(IDS).logits)
    assert model.state_dict().keys() == fused.state_dict().keys()
    twins = _Twins()
    monkeypatch.setattr(blocks, "_kernels", lambda like: twins)
    norm = fused.model.norm.requires_grad_(True)
    norm(torch.ones(1, 32)).sum().backward()
    assert norm.weight.grad is not None
    assert not twins.used
    blocks.unfuse(fused)
    assert [type(module) for module in fused.modules()] == [type(module) for module in model.modules()]


def test_another_language_model_stays_as_it_is() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10))
    kinds = [type(module) for module in model.modules()]
    blocks.fuse(model)
    assert [type(module) for module in model.modules()] == kinds


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kernels_agree_with_their_twins(dtype: str) -> None:
    """In a process of its own: Triton reads TRITON_INTERPRET when it is imported."""
    pytest.importorskip("triton", reason="pip install triton; its interpreter needs no GPU")
    code = f"""
import torch
from components.model import block_kernels, blocks
for tokens, width in ((1, 8), (37, 48), (5, 128), (9, 96)):
    found = blocks.differences(block_kernels, torch.device("cpu"), torch.{dtype}, tokens, width)
    assert found < {1e-6 if dtype == "float32" else 2e-2}, (tokens, width, found)
"""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


HOPPER = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from components.adapters import kernels as adapters
from components.model import block_kernels as blocks

FLOATS, NUMBERS = {"eps"}, {"scales": "*fp32", "d_weight": "*fp32", "d_bias": "*fp32", "expert": "*i32"}
POINTERS = {"x", "weight", "out", "gradient", "gate", "up", "d_gate", "d_up", "cos", "sin", "skill", "task", "bias",
            "d_skill", "d_task", "features", "logits"}

def build(kernel, **constants):
    kinds = {name: "constexpr" if name in constants else NUMBERS.get(name) or ("*bf16" if name in POINTERS else
             "fp32" if name in FLOATS else "i32") for name in kernel.arg_names}
    made = compile(ASTSource(kernel, kinds, constexprs=constants), target=GPUTarget("cuda", 90, 32))
    assert made.asm["cubin"], kernel

build(blocks._norm, COLUMNS=4096)
build(blocks._norm_backward, COLUMNS=4096)
build(blocks._gate, NUMBERS=1024)
build(blocks._gate_backward, NUMBERS=1024)
build(blocks._rotate, HEADS=32, HALF=64)
build(adapters._norm_gate, ROWS=16, RANK=64)
build(adapters._norm_gate_backward, ROWS=16, RANK=64)
build(adapters._route, KIND=1, ROWS=16, RANK=64, EXPERTS=4)
"""


def test_kernels_compile_for_hopper() -> None:
    """Triton brings the compiler: no GPU is needed to see that a kernel can be built for one."""
    pytest.importorskip("triton", reason="pip install triton")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", HOPPER], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
