"""How parts learn and how a run is carried out: `pretrain`, `finetune`, `training`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from components.params.section import Fraction, LearningRate, NotNegative, Positive, Section, Template


class PretrainRates(Section):
    """Of the parts that a run trains; the others' rates are not used."""

    projector: LearningRate
    vlora: LearningRate
    vce: LearningRate


class FinetuneRates(PretrainRates):
    adapter: LearningRate
    language_model: LearningRate


class Recipe(Section):
    """What both training stages say. An empty list of tasks means all.

    The recipe of the paper's appendix B; that weight decay is 0 and that VCE learns at the projector's rate stands in
    the authors' released scripts and optimiser groups (github.com/pengkun-jiao/FHTC, commit a4d92c4).
    """

    sources: Annotated[list[str], Field(min_length=1)]
    tasks: list[str]
    template: Template
    image: Literal["crop", "pad"]
    epochs: Positive
    global_batch: Positive  # samples per optimiser step, over all workers; fewer where it does not divide an epoch's
    max_length: Annotated[int, Field(ge=8)]  # tokens, after the image is expanded
    warmup: Fraction  # share of the steps
    weight_decay: Annotated[float, Field(ge=0)]


class Pretrain(Recipe):
    learning_rate: PretrainRates


class Finetune(Recipe):
    language_model: Literal["frozen", "trained"]  # trained: all of it, in place of an adapter
    learning_rate: FinetuneRates


TOLD_ELSEWHERE = (  # section and key of DeepSpeed's configuration, and the setting that they come from
    ("zero_optimization", "stage", "training.zero_stage"),
    ("bf16", "enabled", "training.precision"),
    ("", "gradient_clipping", "training.grad_clip"),
    ("", "train_micro_batch_size_per_gpu", "training.micro_batch"),
    ("", "gradient_accumulation_steps", "global_batch of a stage"),
    ("", "train_batch_size", "global_batch of a stage"),
    ("", "optimizer", "learning_rate and weight_decay of a stage"),  # DeepSpeed would take ours, and not say so
    ("", "scheduler", "warmup of a stage"),
    ("fp16", "enabled", "training.precision"),
)


def _with_numbers(tree: Any, where: str = "") -> Any:
    """A configuration whose numbers are numbers: YAML reads 5e8 as text. "auto" is refused."""
    if isinstance(tree, dict):
        return {key: _with_numbers(value, f"{where}.{key}" if where else str(key)) for key, value in tree.items()}
    if tree == "auto":
        raise ValueError(f"{where} must be a value, got 'auto': Hugging Face's Trainer fills that in, nobody does here")
    if not (isinstance(tree, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", tree)):
        return tree
    number = float(tree)
    return int(number) if number.is_integer() else number


class Training(Section):
    """How a run is carried out. Workers, threads, micro-batches and ZeRO stage do not change what it learns.

    One exception: `adapter.lora_moe.balance_loss` is measured over each micro-batch.
    """

    workers: Positive
    min_workers: Positive | None  # a run goes on with so few when nodes are lost; None: with `workers` only
    threads_per_worker: Positive
    use_gpu: bool
    micro_batch: Positive  # samples per worker and forward pass, about
    shared_prefix: bool  # samples of one image as one sequence
    attention: Literal["sdpa", "flex"]  # sdpa: a dense mask, anywhere; flex: skips what the mask hides, on GPUs
    activation_checkpointing: bool  # blocks of the language model are computed twice, for less memory
    compile_blocks: bool  # torch.compile fuses the small work of the language model's blocks; needs a C++ compiler
    precision: Literal["fp32", "bf16"]
    zero_stage: Literal[0, 1, 2, 3]
    grad_clip: Annotated[float, Field(ge=0)]  # 0 switches it off
    checkpoint_every_steps: Positive
    validate_every_steps: NotNegative  # 0: never; it changes nothing that is learnt
    validation_samples: NotNegative  # about; 0: the whole validation split
    max_failures: NotNegative  # worker groups that may be lost before the run gives up
    bad_step: Literal["stop", "skip"]  # what to do with a loss that is no number, or a spike
    spike: Annotated[float, Field(ge=0)]  # a loss above this many times the median of the last 20; 0: never
    max_refused: Annotated[float, Field(ge=0, le=1)]  # share of samples without a supervised token
    deepspeed: Annotated[dict[str, Any], BeforeValidator(_with_numbers)]  # merged over the engine's own configuration

    @property
    def worker_counts(self) -> range:
        """Numbers of workers that a run may have."""
        return range(self.min_workers or self.workers, self.workers + 1)

    def updates_one_tensor(self, zero_stage: int) -> bool:
        """Whether adapter and connector are updated as one tensor (components/training/flat.py), not by DeepSpeed.

        Settings for DeepSpeed are a wish for DeepSpeed; ZeRO 3 is its own.
        """
        return self.use_gpu and zero_stage < 3 and not self.deepspeed

    @model_validator(mode="after")
    def _fewest_workers_are_no_more(self) -> Training:
        if not self.worker_counts:
            raise ValueError(f"min_workers must be at most workers ({self.workers}), got {self.min_workers}")
        return self

    @model_validator(mode="after")
    def _flex_attention_has_a_gpu(self) -> Training:
        if self.attention == "flex" and not self.use_gpu:
            raise ValueError("attention must be sdpa where use_gpu is false: flex has no backward pass on CPUs")
        return self

    @model_validator(mode="after")
    def _stage_serves_the_precision(self) -> Training:
        if self.precision == "bf16" and self.zero_stage < 2:
            raise ValueError(f"zero_stage must be 2 or 3 with precision bf16, got {self.zero_stage}")
        return self

    @model_validator(mode="after")
    def _compiled_blocks_are_whole(self) -> Training:
        if self.compile_blocks and self.zero_stage == 3:
            raise ValueError("compile_blocks must be false with zero_stage 3: weights come and go within a block there")
        return self

    @model_validator(mode="after")
    def _deepspeed_is_told_nothing_twice(self) -> Training:
        for section, key, setting in TOLD_ELSEWHERE:
            inner = self.deepspeed.get(section, {}) if section else self.deepspeed
            if isinstance(inner, dict) and key in inner:
                place = f"{section}.{key}" if section else key
                raise ValueError(f"deepspeed must not set {place}; set {setting}")
        return self
