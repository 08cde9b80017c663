"""The engine around the model: DeepSpeed or ours, its parameter groups, and our state in and out of it.

DeepSpeed's own checkpoints are tied to a world size and a ZeRO stage. Ours are not: `capture` gathers whole
tensors by name from any stage, `restore` writes them into a fresh engine of any stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import Tensor, nn

from components.model.assemble import compile_blocks, recompute_blocks, trainable_groups
from components.params import Finetune, Pretrain, Training
from components.params.trees import merged
from components.training.checkpoint import TrainState
from components.training.flat import MOMENTS, FlatEngine
from components.training.loss import SupervisedLoss

REDUCE_BUCKET = 500_000_000  # DeepSpeed's own, in numbers


def start_engine(
    module: SupervisedLoss,
    recipe: Pretrain | Finetune,
    training: Training,
    steps: int,
    micro_batches: int,
    workers: int,
) -> Any:
    """An engine that trains the trainable parameters of `module`, each part at its own learning rate.

    DeepSpeed's, but for adapters and connectors on GPUs under ZeRO 0 to 2: there it is ours (flat.py).
    """
    if training.attention == "flex":
        module.llava.model.language_model.set_attn_implementation("flex_attention")
    if training.activation_checkpointing:
        recompute_blocks(module.llava)
    if training.compile_blocks:
        compile_blocks(module.llava)

    rates = recipe.learning_rate.model_dump()
    groups = [
        {"params": [parameter for _, parameter in members], "lr": rates[part], "name": part}
        for part, members in trainable_groups(module.llava).items()
    ]
    frozen = not (isinstance(recipe, Finetune) and recipe.language_model == "trained")
    if training.updates_one_tensor(training.zero_stage) and frozen:
        return FlatEngine(
            module,
            groups,
            cosine(steps, recipe.warmup),
            weight_decay=recipe.weight_decay,
            clip=training.grad_clip,
            micro_batches=micro_batches,
            stage=training.zero_stage,
        )
    _skip_compiled_collectives()
    import deepspeed

    optimizer = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)  # Adam where the decay is 0
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine(steps, recipe.warmup))
    engine, _, _, _ = deepspeed.initialize(
        model=module,
        optimizer=optimizer,  # pyright: ignore[reportArgumentType]
        lr_scheduler=schedule,  # pyright: ignore[reportArgumentType]
        config=engine_config(training, micro_batches, workers, sum(p.numel() for g in groups for p in g["params"])),
    )
    return engine


def cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Share of the learning rate at a step: a linear rise over `warmup` of the steps, then half a cosine to 0.

    That of transformers' `get_cosine_schedule_with_warmup`, which LLaVA's scripts and the authors' use: the rise is
    step / rise, so that the first step of a warm-up has the rate 0.
    """
    rise = math.ceil(steps * warmup)

    def share(step: int) -> float:
        if step < rise:
            return step / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return share


def engine_config(training: Training, micro_batches: int, workers: int, trained: int) -> dict[str, Any]:
    """DeepSpeed's configuration; what `training.deepspeed` says goes over ours.

    DeepSpeed makes room for `reduce_bucket_size` numbers whatever there is to reduce: an adapter needs a fraction.
    """
    own = {
        "train_micro_batch_size_per_gpu": training.micro_batch,
        "gradient_accumulation_steps": micro_batches,
        "train_batch_size": training.micro_batch * micro_batches * workers,
        "gradient_clipping": training.grad_clip,
        "bf16": {"enabled": training.precision == "bf16"},
        "zero_optimization": {"stage": training.zero_stage, "reduce_bucket_size": min(REDUCE_BUCKET, trained)},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }
    return merged(own, training.deepspeed)


def capture(engine: Any, step: int, updates: int) -> TrainState:
    """Whole weights and moments by name. Every rank must call it; every rank gets the same.

    Args:
        step: optimiser steps done.
        updates: those of them that were learnt from.
    """
    if isinstance(engine, FlatEngine):
        weights, moments = engine.capture()
        return TrainState(step, updates, weights, **moments)
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    weights: dict[str, Tensor] = {}
    moments: dict[str, dict[str, Tensor]] = {key: {} for key in MOMENTS}
    plain = plain_optimizer(engine)
    if plain is None and engine.zero_optimization_stage() < 3:
        _link_moments(engine.optimizer)
    for name, parameter in _trainable(engine):
        if plain is not None:
            weights[name] = _copy(parameter)
            for key in MOMENTS:
                held = plain.state[parameter].get(key)  # none before the first step that is learnt from
                moments[key][name] = torch.zeros_like(weights[name]) if held is None else _copy(held)
        else:
            weights[name] = _copy(safe_get_full_fp32_param(parameter))
            for key in MOMENTS:
                moments[key][name] = _copy(safe_get_full_optimizer_state(parameter, key))
    return TrainState(step, updates, weights, **moments)


def restore(engine: Any, state: TrainState) -> None:
    """Put a captured state into a fresh engine, so that training goes on as if it had not stopped."""
    assert_trains(engine, state.weights.keys())
    stage = engine.zero_optimization_stage()
    if isinstance(engine, FlatEngine):
        engine.restore(state.weights, {key: getattr(state, key) for key in MOMENTS}, state.updates)
    elif plain_optimizer(engine) is not None:
        _restore_plain(engine, state)
    elif stage < 3:
        _restore_partitioned_optimizer(engine, state)
    else:
        _restore_partitioned_parameters(engine, state)
    assert_trains(engine, state.weights.keys())
    engine.global_steps = state.step
    if not isinstance(engine, FlatEngine):
        engine.global_samples = state.step * engine.train_batch_size()
    engine.lr_scheduler.last_epoch = state.step
    schedule = engine.lr_scheduler
    rates = [base * share(state.step) for base, share in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)]
    for group, rate in zip(engine.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def assert_trains(engine: Any, names: Collection[str]) -> None:
    """Wrapping and loading must not change what is trained: DeepSpeed would not report it."""
    found = {name for name, _ in _trainable(engine)}
    assert found == set(names), f"what is trained has changed: {sorted(found ^ set(names))}"


def _restore_plain(engine: Any, state: TrainState) -> None:
    optimizer = engine.optimizer
    for name, parameter in _trainable(engine):
        parameter.data.copy_(state.weights[name])
        moments = {key: getattr(state, key)[name].to(parameter).clone() for key in MOMENTS}
        optimizer.state[parameter] = {"step": torch.tensor(float(state.updates)), **moments}


def _restore_partitioned_optimizer(engine: Any, state: TrainState) -> None:
    """ZeRO 1 and 2: each rank holds one flat fp32 partition per group; parameters have views into it."""
    from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

    optimizer = engine.optimizer
    for flat in optimizer.single_partition_of_fp32_groups:
        _fresh_moments(optimizer.optimizer, flat, state.updates)
    _link_moments(optimizer)
    for name, parameter in _trainable(engine):
        safe_set_full_fp32_param(parameter, state.weights[name].to(parameter.device))
        for key in MOMENTS:
            safe_set_full_optimizer_state(parameter, getattr(state, key)[name].to(parameter.device), key)
    optimizer.update_lp_params()


def _restore_partitioned_parameters(engine: Any, state: TrainState) -> None:
    """ZeRO 3: each rank holds a slice of every parameter, padded to equal size."""
    import deepspeed
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

    optimizer = engine.optimizer
    for flat in optimizer.fp32_partitioned_groups_flat:
        _fresh_moments(optimizer.optimizer, flat, state.updates)
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    for name, parameter in _trainable(engine):
        size = -(-state.weights[name].numel() // workers)

        def share(whole: Tensor, size: int = size, place: Tensor = parameter) -> Tensor:
            padded = torch.zeros(size * workers)
            padded[: whole.numel()] = whole.flatten()
            return padded[rank * size : (rank + 1) * size].to(place.device)

        safe_set_local_fp32_param(parameter, share(state.weights[name]))
        for key in MOMENTS:
            safe_set_local_optimizer_state(parameter, share(getattr(state, key)[name]), key)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            parameter.data.copy_(state.weights[name])


def _link_moments(optimizer: Any) -> None:
    """Give parameters their views into the flat moments (ZeRO 1 and 2).

    DeepSpeed does it once, at its first step, when only the first group has moments. Private names: there is
    no public way.
    """
    optimizer._hp_optimizer_states_linked = False
    optimizer._lazy_init_hp_params_optimizer_state()


def _fresh_moments(optimizer: torch.optim.Optimizer, flat: Tensor, updates: int) -> None:
    zeros = {key: torch.zeros_like(flat) for key in MOMENTS}
    optimizer.state[flat] = {"step": torch.tensor(float(updates)), **zeros}


def _trainable(engine: Any) -> list[tuple[str, nn.Parameter]]:
    return [(name, p) for name, p in engine.module.llava.named_parameters() if p.requires_grad]


def plain_optimizer(engine: Any) -> torch.optim.Optimizer | None:
    """The torch optimiser where DeepSpeed left it as it was (ZeRO 0, fp32)."""
    return engine.optimizer if isinstance(engine.optimizer, torch.optim.Optimizer) else None


def _copy(tensor: Tensor | None) -> Tensor:
    assert tensor is not None, "DeepSpeed holds no such state"
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


def _skip_compiled_collectives() -> None:
    """On CPUs DeepSpeed compiles a shared-memory collective at first use (a minute); gloo serves as well."""
    if torch.cuda.is_available():
        return
    from deepspeed.ops import __compatible_ops__

    if "deepspeed_shm_comm" in __compatible_ops__:
        __compatible_ops__["deepspeed_shm_comm"] = False
