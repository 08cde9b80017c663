"""What the settings will need: the numbers of `lea plan`, as one tree that is JSON.

Nothing is downloaded and no weight is made: the model stands on the meta device, and micro-batches of both training
stages run through it there (dry_run.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from components.costs.dry_run import Shape, dry_run, language_flops
from components.costs.memory import STAGES, gpu_memory
from components.costs.published import comparisons
from components.costs.samples import num_samples
from components.costs.skeleton import (
    LLAVA,
    Learnt,
    at_full_depth,
    bare,
    base_config,
    llava_config,
    parameters_by_part,
    skeleton,
)
from components.errors import UserError
from components.params import Params, Recipe

MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64)
GPU_FLOPS = 125e12  # per second: 40 % of the 312e12 that an A100 can do in bf16
CORE_FLOPS = 30e9  # per second, of a CPU core
STEPS = 4  # dry runs of a plan, for its progress bar


@dataclass(frozen=True)
class Assumed:
    """What cannot be known before the data is there and the machine is chosen."""

    text_tokens: int = 128  # of a sample, beside its image
    flops: float | None = None  # per second and worker, sustained; None: GPU_FLOPS or CORE_FLOPS
    runtime_bytes: int = 3 * 2**29  # per GPU: CUDA, NCCL, what the allocator cannot use
    samples: int | None = None  # per epoch and stage; None: those of the named sources
    price: float | None = None  # of a GPU hour
    gpu_bytes: float | None = None  # of a card


def plan(params: Params, assumed: Assumed | None = None, done: Callable[[int], object] = lambda step: None) -> Any:
    """The whole plan: bytes, FLOPs and hours as plain numbers. `done` is called with how many of STEPS are done."""
    training, recipe = params.training, params.finetune
    learnt: Learnt = "language_model" if recipe.language_model == "trained" else params.adapter
    assumed = assumed or Assumed()
    if assumed.flops is None:
        assumed = replace(assumed, flops=GPU_FLOPS if training.use_gpu else CORE_FLOPS * training.threads_per_worker)
    stages = {"pretrain": _stage(params, params.pretrain, None, assumed)}
    done(1)
    stages["finetune"] = _stage(params, recipe, learnt, assumed)
    done(2)
    tokens = recipe.max_length
    one, two = at_full_depth(
        params,
        learnt,
        lambda m: [dry_run(m, _shape(m, n, tokens, tokens), on_gpu=training.use_gpu).activations for n in (1, 2)],
    )
    done(3)
    counted = parameters_by_part(skeleton(params, learnt, as_released=True))
    held = parameters_by_part(skeleton(params, learnt)).values()
    total = sum(number for number, _ in counted.values())
    trained = sum(number for number, is_trained in held if is_trained)
    frozen = sum(number for number, is_trained in held if not is_trained)

    def memory(activations: int, zero_stage: int) -> dict[str, Any]:
        one_tensor = training.updates_one_tensor(zero_stage) and learnt != "language_model"
        memory = gpu_memory(frozen, trained, activations, training, zero_stage, one_tensor=one_tensor)
        needed = memory.total + assumed.runtime_bytes
        fits = None if assumed.gpu_bytes is None else needed <= assumed.gpu_bytes
        return {**asdict(memory), "runtime": assumed.runtime_bytes, "total": needed, "fits": fits}

    most = max(training.micro_batch, min(recipe.global_batch // training.workers, MICRO_BATCHES[-1]))
    sizes = sorted({n for n in MICRO_BATCHES if n <= most} | {training.micro_batch})
    worst = [
        {"micro_batch": n, "zero": {str(stage): memory(one + (n - 1) * (two - one), stage) for stage in STAGES}}
        for n in sizes
    ]
    own = memory(stages["finetune"].pop("activations"), training.zero_stage)
    stages["pretrain"].pop("activations")
    published = bare(llava_config(*LLAVA["llava-hf/llava-1.5-7b-hf"])).num_parameters()
    done(STEPS)
    bytes_each = 2 if training.precision == "bf16" else 4
    return {
        "profile": params.profile,
        "assumed": asdict(assumed),
        "training": training.model_dump(),
        "parameters": {
            name: {"number": number, "bytes": number * bytes_each, "trained": is_trained}
            for name, (number, is_trained) in counted.items()
        },
        "total": total,
        "trained": trained,
        "stages": stages,
        "memory": {
            "own": {"tokens": stages["finetune"]["tokens"], "micro_batch": training.micro_batch, **own},
            "longest": {"tokens": tokens, "rows": worst},
        },
        "published": [asdict(row) for row in comparisons(published)],
    }


def _stage(params: Params, recipe: Recipe, learnt: Learnt, assumed: Assumed) -> dict[str, Any]:
    """Steps, FLOPs, hours and price of a training stage, of samples with an image and the assumed text."""
    training = params.training
    visual = 0 if params.connector.chosen_vlora else base_config(params).image_seq_length
    text = min(assumed.text_tokens, recipe.max_length - visual)
    if text < 1:
        raise UserError(f"params.yaml: max_length {recipe.max_length} leaves no text beside {visual} image tokens")

    def count(model: Any) -> list[int]:
        shape = _shape(model, training.micro_batch, visual + text, text)
        cost = dry_run(model, shape, on_gpu=training.use_gpu)
        language = [language_flops(model, tokens) for tokens in (text, visual + text)]
        return [cost.activations, cost.forward_flops, cost.backward_flops, *language]

    activations, forward, backward, text_only, language = at_full_depth(params, learnt, count)
    each = (forward + backward) / training.micro_batch
    samples = assumed.samples or num_samples(params, recipe)
    hours = price = None
    if samples:
        assert assumed.flops is not None
        hours = samples * recipe.epochs * each / (assumed.flops * training.workers) / 3600
        price = None if assumed.price is None else hours * training.workers * assumed.price
    return {
        "samples": samples,
        "epochs": recipe.epochs,
        "steps": math.ceil(samples / recipe.global_batch) * recipe.epochs if samples else None,
        "tokens": visual + text,
        "text_tokens": text,  # as assumed, or what max_length leaves
        "flops": {
            "language_model_text_only": text_only,
            "language_model": language,
            "forward": forward / training.micro_batch,
            "training": each,
        },
        "hours": hours,
        "gpu_hours": None if hours is None else hours * training.workers,
        "price": price,
        "activations": activations,
    }


def _shape(model: Any, sequences: int, tokens: int, text: int) -> Shape:
    """All samples have an image; their text is half question, half answer, or all answer where it is the longest."""
    supervised = max(1, text // 2) if text < tokens else tokens - model.config.image_seq_length
    return Shape(sequences, tokens, sequences * supervised, sequences)
