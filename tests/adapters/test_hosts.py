"""Every method inside what carries it: transformers models, gradient checkpointing, torch.compile, ZeRO-3."""

import os
import socket
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import nn
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MambaConfig,
    MambaForCausalLM,
)

from components.adapters import METHODS, RouterWeights, adapter_parameters

SETTINGS = {"r": 8, "lora_alpha": 16, "target_modules": r".*language_model.*\.(q|v)_proj"}
MORE = {"lora": {}, "dual_lora": {}, "lora_moe": {}, "rode": {"ranks": [1, 1, 2, 4]}}
every_method = pytest.mark.parametrize("name", list(METHODS))
every_own_method = pytest.mark.parametrize("name", [name for name in METHODS if name != "lora"])


def llava(name: str, **more) -> Any:
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4
    )
    text = LlamaConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=40, pad_token_id=0
    )
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=39, vision_feature_layer=-2)
    model = get_peft_model(LlavaForConditionalGeneration(config), METHODS[name](**SETTINGS, **MORE[name], **more))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def batch() -> dict[str, torch.Tensor]:
    ids = torch.tensor([[1, 39, 39, 39, 39, 5, 6, 7]])
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "pixel_values": pixels, "labels": ids.masked_fill(ids == 39, -100)}


def gradients(model) -> dict[str, torch.Tensor]:
    model(**batch()).loss.backward()
    return {n: p.grad for n, p in adapter_parameters(model).items() if p.grad is not None}


@every_method
def test_gradient_checkpointing_gives_the_same_gradients(name):
    plain = gradients(llava(name, lora_dropout=0.0).train())
    model = llava(name, lora_dropout=0.0).train()
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    for n, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, plain[n])
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_counts_every_token_once_and_trains_the_balance_or_says_that_it_cannot(reentrant):
    plain = llava("lora_moe", lora_dropout=0.0).train()
    with RouterWeights(plain) as expected:
        plain(**batch())
    model = llava("lora_moe", lora_dropout=0.0).train()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    with RouterWeights(model) as routed:
        model(**batch()).loss.backward()
    assert {n: [len(w) for w in kept] for n, kept in routed.layers.items()} == {n: [8] for n in expected.layers}
    if reentrant:
        with pytest.raises(ValueError, match="reentrant checkpointing"):
            routed.balance_loss()
    else:
        torch.testing.assert_close(routed.balance_loss(), expected.balance_loss())


@every_method
def test_a_llava_adapts_its_language_model_and_generates(name):
    model = llava(name).eval()
    assert all(".language_model." in n for n in adapter_parameters(model))
    prompt = {k: v for k, v in batch().items() if k != "labels"}
    written = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    ids = prompt["input_ids"]
    for _ in range(3):  # by hand, without a cache
        logits = model(input_ids=ids, pixel_values=prompt["pixel_values"]).logits
        ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(written, ids[:, : written.shape[1]])


@every_own_method
def test_a_model_s_own_load_adapter_is_refused_in_one_line(name, tmp_path):
    model = llava(name)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"adapters are loaded by peft.PeftModel.from_pretrained") as caught:
        model.unload().load_adapter(str(tmp_path))
    assert "\n" not in str(caught.value)


@every_method
def test_all_linear_names_the_layers_that_have_an_adapter_already(name):
    make: Any = METHODS[name]
    model = llava(name)  # on q and v
    more = {"r": 8, "lora_alpha": 16, **MORE[name]}
    model.add_adapter("second", make(target_modules="all-linear", **more))
    model.add_adapter("third", make(target_modules="All-Linear", **more))
    found = [{n.replace(f".{a}", "") for n in adapter_parameters(model, a)} for a in ("second", "third")]
    fresh = get_peft_model(model.unload(), make(target_modules="all-linear", **more))
    expected = {n.replace(".default", "") for n in adapter_parameters(fresh)}
    assert found == [expected, expected]
    assert not any("lm_head" in n for n in expected)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True), 2)
        self.config = {"model_type": "custom"}

    def forward(self, x):
        return self.encoder(x)


@every_own_method
def test_torch_s_fused_encoder_layer_does_not_pass_by_an_adapter(name):
    torch.manual_seed(0)
    model = get_peft_model(Encoder(), METHODS[name](**{**SETTINGS, "target_modules": ["linear1"]}, **MORE[name]))
    x = torch.randn(1, 3, 8)
    model.eval()
    before = model(x)
    with torch.no_grad():
        for parameter in adapter_parameters(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape))
        assert not torch.equal(model(x), before)


@every_own_method
def test_layer_that_its_attention_does_not_call_is_refused(name):
    settings = {**SETTINGS, "target_modules": ["out_proj", "linear1"], **MORE[name]}
    with pytest.raises(
        ValueError, match=r"encoder.layers.0.self_attn.out_proj: .* name it in exclude_modules"
    ) as caught:
        get_peft_model(Encoder(), METHODS[name](**settings))
    assert "\n" not in str(caught.value)
    get_peft_model(Encoder(), METHODS[name](**{**settings, "exclude_modules": ["out_proj"]}))
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "vocab_size": 40}
    with pytest.raises(ValueError, match="Module 'out_proj' is incompatible with Mamba"):
        get_peft_model(
            MambaForCausalLM(MambaConfig(**sizes)), METHODS[name](**{**settings, "target_modules": ["out_proj"]})
        )


@every_method
def test_a_layer_compiles_in_one_graph(name):
    layer = llava(name, lora_dropout=0.0).base_model.model.model.language_model.layers[0].self_attn.q_proj
    x = torch.randn(2, 5, 16)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).sum().backward()
    assert all(p.grad is not None for p in adapter_parameters(layer).values())


ZERO_3 = """
    import os, sys, torch, deepspeed
    import deepspeed.comm
    from deepspeed.ops import __compatible_ops__
    __compatible_ops__["deepspeed_shm_comm"] = False  # would compile a C++ extension for a minute
    from safetensors.torch import load_file
    from peft import PeftModel, get_peft_model, get_peft_model_state_dict
    from components.adapters import METHODS, adapter_parameters

    class Base(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.q_proj, self.out = torch.nn.Linear(6, 4), torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.q_proj(x).tanh()).square().mean()

    def train(stage, name, settings, init):
        torch.manual_seed(0)
        config = {"train_batch_size": 4, "zero_optimization": {"stage": stage}}
        model = Base()
        x = torch.randn(4, 6)
        fresh = model(x).item()
        state = {k: v.clone() for k, v in model.state_dict().items()}
        if init:
            with deepspeed.zero.Init(config_dict_or_path=config):
                model = Base()
                model = get_peft_model(model, METHODS[name](**settings))
            with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):
                for key, value in state.items():
                    path = key.replace("q_proj.", "q_proj.base_layer.")
                    model.base_model.model.get_parameter(path).data.copy_(value)
                torch.manual_seed(1)
                for part in adapter_parameters(model).values():
                    if part.dim() == 2 and part.abs().sum() > 0:
                        part.data.normal_()
        else:
            model = get_peft_model(model, METHODS[name](**settings))
            torch.manual_seed(1)
            for part in adapter_parameters(model).values():
                if part.dim() == 2 and part.abs().sum() > 0:
                    part.data.normal_()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        losses = []
        for _ in range(4):
            loss = engine(x)
            engine.backward(loss)
            engine.step()
            losses.append(loss.item())
        assert abs(losses[0] - fresh) < 1e-6, (losses, fresh)
        with deepspeed.zero.GatheredParameters(list(adapter_parameters(model).values()), enabled=stage == 3):
            parts = {k: v.clone() for k, v in get_peft_model_state_dict(model).items()}
        return losses, parts

    os.environ.update(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[1])
    deepspeed.comm.init_distributed("gloo")
    for name, more in {"dual_lora": {}, "lora_moe": {"num_experts": 2}, "rode": {"ranks": [1, 3]}}.items():
        settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": ["q_proj"], **more}
        losses, parts = train(0, name, settings, False)
        assert losses[-1] < losses[0], losses
        for init in (False, True):
            theirs, their_parts = train(3, name, settings, init)
            torch.testing.assert_close(torch.tensor(theirs), torch.tensor(losses))
            assert parts.keys() == their_parts.keys()
            for key in parts:
                torch.testing.assert_close(their_parts[key], parts[key])
    print("EQUAL")
"""


@pytest.mark.slow
def test_zero_3_trains_like_zero_0_partitioned_before_or_after_the_adapter(tmp_path):
    script = tmp_path / "zero.py"
    script.write_text(textwrap.dedent(ZERO_3), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = subprocess.run(
        [sys.executable, str(script), str(port)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": ".", "DS_ACCELERATOR": "cpu"},
    )
    assert "EQUAL" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]
