"""What the settings will need: the numbers of `lea plan`, as one tree that is JSON.

Nothing is downloaded and no weight is made: the model stands on the meta device, and micro-batches of both training
stages run through it there (dry_run.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from components.costs.card import remedies, usable
from components.costs.dry_run import Shape, dry_run, language_flops
from components.costs.memory import STAGES, gpu_memory
from components.costs.published import Comparison, comparisons, hours_of_llava
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
from components.costs.text_lengths import mean_text_tokens
from components.errors import UserError
from components.model.language import check_window
from components.params import Params, Recipe, Training

MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64)
GPU_FLOPS = 125e12  # per second: 40 % of the 312e12 that an A100 can do in bf16
CORE_FLOPS = 30e9  # per second, of a CPU core
TEXT_TOKENS = 128  # of a sample, where no prepared data says it
STEPS = 4  # parts of a plan, for its progress bar


@dataclass(frozen=True)
class Assumed:
    """What cannot be known before the data is there and the machine is chosen."""

    text_tokens: int | None = None  # of a sample, beside its image; None: of the prepared data, else TEXT_TOKENS
    flops: float | None = None  # per second and worker, sustained; None: GPU_FLOPS or CORE_FLOPS
    runtime_bytes: int = 3 * 2**29  # per GPU: CUDA, NCCL, what the allocator cannot use
    samples: int | None = None  # per epoch and stage; None: those of the named sources
    price: float | None = None  # of a GPU hour
    gpu_bytes: float | None = None  # of a card


def plan(params: Params, assumed: Assumed | None = None, done: Callable[[int], object] = lambda step: None) -> Any:
    """The whole plan: bytes, FLOPs and hours as plain numbers. `done` is called with how many of STEPS are done."""
    training, recipe = params.training, params.finetune
    config = base_config(params)
    check_window(config, params.pretrain.max_length, "pretrain.max_length")
    check_window(config, recipe.max_length, "finetune.max_length")
    learnt: Learnt = "language_model" if recipe.language_model == "trained" else params.adapter
    assumed = assumed or Assumed()
    if assumed.flops is None:
        assumed = replace(assumed, flops=GPU_FLOPS if training.use_gpu else CORE_FLOPS * training.threads_per_worker)
    stages = {"pretrain": _stage(params, params.pretrain, None, assumed)}
    done(1)
    stages["finetune"] = _stage(params, recipe, learnt, assumed)
    done(2)
    counted = parameters_by_part(skeleton(params, learnt, as_released=True))
    memory = _memory(params, learnt, assumed, stages["finetune"])
    for stage in stages.values():
        del stage["activations"]
    done(3)
    compared = _compared(assumed.text_tokens or TEXT_TOKENS)  # LLaVA's data, not those that are prepared here
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
        "total": sum(number for number, _ in counted.values()),
        "trained": memory.pop("trained"),
        "stages": stages,
        "memory": memory,
        "published": [asdict(row) for row in compared],
    }


def _memory(params: Params, learnt: Learnt, assumed: Assumed, finetune: Any) -> dict[str, Any]:
    """Bytes per GPU as it is set and for the longest samples, by micro-batch and ZeRO stage, and what would fit."""
    training = params.training
    held = parameters_by_part(skeleton(params, learnt)).values()
    trained = sum(number for number, is_trained in held if is_trained)
    need = _Need(params, learnt, assumed, trained, sum(number for number, _ in held) - trained)
    most = max(training.micro_batch, min(params.finetune.global_batch // training.workers, MICRO_BATCHES[-1]))
    sizes = sorted({n for n in MICRO_BATCHES if n <= most} | {training.micro_batch})
    own = need.of(training, finetune["activations"], training.zero_stage, training.micro_batch)
    card = assumed.gpu_bytes
    return {
        "own": {"tokens": finetune["tokens"], "micro_batch": training.micro_batch, **own},
        "longest": {
            "tokens": params.finetune.max_length,
            "rows": [
                {"micro_batch": n, "zero": {str(stage): need.of_longest(training, n, stage) for stage in STAGES}}
                for n in sizes
            ],
        },
        "usable": None if card is None else usable(card),
        "remedies": [] if card is None else remedies(training, need.total, card),
        "trained": trained,
    }


class _Need:
    """Bytes per GPU of the fine-tuning, under settings of `training` that may differ from the ones that are set."""

    def __init__(self, params: Params, learnt: Learnt, assumed: Assumed, trained: int, frozen: int) -> None:
        self.params, self.assumed = params, assumed
        self.learnt: Learnt = learnt
        self.trained, self.frozen = trained, frozen
        self._activations: dict[bool, list[int]] = {}

    def of(self, training: Training, activations: int, zero_stage: int, micro_batch: int) -> dict[str, Any]:
        """By what it is for, and whether a card holds it."""
        one_tensor = training.updates_one_tensor(zero_stage) and self.learnt != "language_model"
        accumulates = self.params.finetune.global_batch > training.workers * micro_batch
        memory = gpu_memory(
            self.frozen, self.trained, activations, training, zero_stage, one_tensor=one_tensor, accumulates=accumulates
        )
        runtime, card = self.assumed.runtime_bytes, self.assumed.gpu_bytes
        total = memory.total + runtime
        fits = None if card is None else total <= usable(card)
        return {**asdict(memory), "runtime": runtime, "total": total, "fits": fits}

    def of_longest(self, training: Training, micro_batch: int, zero_stage: int) -> dict[str, Any]:
        one, two = self._longest(training.activation_checkpointing)
        return self.of(training, one + (micro_batch - 1) * (two - one), zero_stage, micro_batch)

    def total(self, training: Training, micro_batch: int) -> int:
        return self.of_longest(training, micro_batch, training.zero_stage)["total"]

    def _longest(self, checkpointing: bool) -> list[int]:
        """Bytes of activations of one and of two of the longest samples; counted once, it takes seconds."""
        if checkpointing not in self._activations:
            training = self.params.training.model_copy(update={"activation_checkpointing": checkpointing})
            varied, tokens = self.params.model_copy(update={"training": training}), self.params.finetune.max_length

            def count(model: Any) -> list[int]:
                shapes = (_shape(model, number, tokens, tokens) for number in (1, 2))
                return [dry_run(model, shape, on_gpu=training.use_gpu).activations for shape in shapes]

            self._activations[checkpointing] = at_full_depth(varied, self.learnt, count)
        return self._activations[checkpointing]


def _compared(text: int) -> list[Comparison]:
    """Sizes, FLOPs and hours beside the published ones. A CPU's rate says nothing about A100s."""
    models = {name: bare(llava_config(*LLAVA[f"llava-hf/llava-1.5-{name}-hf"])) for name in ("7b", "13b")}
    forward = {name: language_flops(model, model.config.image_seq_length + text) for name, model in models.items()}
    return [*comparisons(models["7b"].num_parameters()), *hours_of_llava(forward, text, GPU_FLOPS)]


def _stage(params: Params, recipe: Recipe, learnt: Learnt, assumed: Assumed) -> dict[str, Any]:
    """Steps, FLOPs, hours and price of a training stage, of samples with an image and the assumed text."""
    training = params.training
    visual = 0 if params.connector.chosen_vlora else base_config(params).image_seq_length
    room = recipe.max_length - visual
    if room < 1:
        raise UserError(f"params.yaml: max_length {recipe.max_length} leaves no text beside {visual} image tokens")
    counted = None if assumed.text_tokens else mean_text_tokens(params, recipe, room)
    text = min(assumed.text_tokens or counted or TEXT_TOKENS, room)

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
        "text_tokens": text,  # as counted or assumed, or what max_length leaves
        "text_counted": counted is not None,
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
