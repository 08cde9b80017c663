from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.memory import ALL_LINEAR, Case, run, settings
from components.costs.dry_run import Shape, dry_run
from components.costs.kernels import OwnKernels
from components.costs.memory import gpu_memory
from components.costs.peak_memory import PeakMemory
from components.costs.skeleton import at_full_depth, skeleton


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(kind="lora_moe", targets=tuple(ALL_LINEAR)),
        Case(width=128, sequences=1, precision="bf16"),
        Case(blocks=4, tokens=160, recompute=True),
    ],
    ids=lambda case: case.name,
)
def test_model_is_within_a_tenth_of_the_measured_peak(case: Case, params: Any) -> None:
    row = run(case, params)
    assert row["ratio"] == pytest.approx(1, abs=0.1)
    assert row["activations_ratio"] == pytest.approx(1, abs=0.1)


def test_activation_checkpointing_takes_less_memory_and_more_computation(params: Any) -> None:
    shape = Shape(2, 80, 40, 2)
    kept, again = (
        dry_run(skeleton(own, own.adapter), shape)
        for own in (settings(Case(blocks=4, recompute=recompute), params) for recompute in (False, True))
    )
    assert again.activations < 0.7 * kept.activations
    assert again.forward_flops == kept.forward_flops
    # the blocks' forward comes once more, but neither the vision tower's nor a block's last product
    assert 0.3 * kept.forward_flops < again.backward_flops - kept.backward_flops < 0.5 * kept.forward_flops


@pytest.mark.parametrize(("connector", "off"), [("projector", 0), ("vlora", 1e-3)])  # VLoRA's queries see each other
def test_two_shallow_models_tell_the_deep_one(params: Any, connector: str, off: float) -> None:
    own = settings(Case(blocks=7), params)
    own = own.model_copy(update={"connector": own.connector.model_copy(update={"kind": connector})})
    shape = Shape(2, 80, 40, 2)

    def count(model: Any) -> list[int]:
        cost = dry_run(model, shape)
        return [cost.activations, cost.forward_flops, cost.backward_flops]

    assert at_full_depth(own, own.adapter, count) == pytest.approx(count(skeleton(own, own.adapter)), rel=off, abs=0)


def test_stages_share_out_more_and_more(params: Any) -> None:
    training = params.training.model_copy(update={"precision": "bf16", "workers": 8})
    zero = [gpu_memory(10**9, 10**6, 10**8, training, stage) for stage in range(4)]
    assert [memory.weights for memory in zero] == [2 * (10**9 + 10**6)] * 3 + [2 * (10**9 + 10**6) // 8]
    assert [memory.gradients for memory in zero] == [2_000_000, 2_000_000, 250_000, 250_000]
    assert [memory.optimiser for memory in zero] == [12_000_000, 1_500_000, 1_500_000, 1_500_000]


def test_one_tensor_holds_no_gradients_beside_the_activations_of_one_micro_batch(params: Any) -> None:
    training = params.training.model_copy(update={"precision": "bf16", "workers": 1})
    one, several = (
        gpu_memory(10**9, 10**8, 10**10, training, 2, one_tensor=True, accumulates=again) for again in (False, True)
    )
    assert one.total == 2 * (10**9 + 10**8) + 12 * 10**8 + 10**10
    assert several.total - one.total == 4 * 10**8
    small = gpu_memory(10**9, 10**8, 10**6, training, 2, one_tensor=True, accumulates=False)
    assert small.working == 8 * 10**8  # at the step


def test_buffer_is_as_large_as_the_settings_say(params: Any) -> None:
    training = params.training.model_copy(update={"deepspeed": {"zero_optimization": {"reduce_bucket_size": 1000}}})
    assert gpu_memory(10, 10, 10, training, 2).buffers == 4000


def test_dropout_keeps_a_byte_for_each_number_on_gpus(params: Any) -> None:
    own = settings(Case(precision="bf16", kind="lora"), params)
    without = own.model_copy(update={"adapter": own.adapter.model_copy(update={"dropout": 0.0})})

    def activations(chosen: Any, on_gpu: bool) -> int:
        return dry_run(skeleton(chosen, chosen.adapter), Shape(2, 80, 40, 2), on_gpu=on_gpu).activations

    on_cpu, on_gpu = (activations(own, gpu) - activations(without, gpu) for gpu in (False, True))
    # q and v of both blocks: two bytes for each of their inputs' numbers there, one here
    assert on_cpu - on_gpu == pytest.approx(4 * 2 * 80 * 64, rel=0.05)


TOKENS, WIDTH = 10, 64


@pytest.mark.parametrize(
    ("kernel", "inputs", "kept"),
    [
        ("rms_norm", 1, 4 * TOKENS),  # a number in fp32 for each token
        ("gated", 2, 0),
        ("norm_gate", 2, 0),
        ("rotated", 1, 0),
    ],
)
def test_kernels_of_gpus_keep_little_beyond_their_inputs(kernel: str, inputs: int, kept: int) -> None:
    def tensor(*shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta", dtype=torch.bfloat16, requires_grad=True)

    each = [tensor(TOKENS, WIDTH) for _ in range(inputs)]
    weight, bias = tensor(WIDTH), tensor(WIDTH)
    more = {"rms_norm": (weight.detach(), 1e-6), "norm_gate": (weight, bias), "rotated": (weight, bias)}
    with PeakMemory(*each, weight, bias) as memory:
        before = memory.alive
        out = getattr(OwnKernels, kernel)(*each, *more.get(kernel, ()))
        assert memory.alive - before == 2 * TOKENS * WIDTH + kept  # the result, and what is kept
        out.sum().backward()
    assert all(tensor.grad is not None and tensor.grad.shape == tensor.shape for tensor in each)


def test_vision_block_that_nobody_reads_is_not_counted(params: Any) -> None:
    whole = settings(Case(), params)
    without = whole.model_copy(update={"vce": whole.vce.model_copy(update={"levels": [-3, -4], "anchor": -3})})
    blocks = [len(skeleton(own, None).model.vision_tower.encoder.layers) for own in (whole, without)]
    assert blocks == [5, 4]  # of six
