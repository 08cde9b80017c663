"""params.yaml as one frozen, validated tree. Every number of the project comes from here."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from components.errors import UserError

PARAMS_FILE = Path("params.yaml")

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
LearningRate = Annotated[float, Field(ge=0, le=1)]
Template = Literal["plain", "v1", "chat"]


def _names_or_a_regex(targets: Any) -> Any:
    names = [targets] if isinstance(targets, str) else targets
    if not (isinstance(names, list) and names and all(isinstance(name, str) and name for name in names)):
        raise ValueError(f"must be a list of names or one regex, got {targets!r}")
    try:
        re.compile(targets if isinstance(targets, str) else "")
    except re.error as error:
        raise ValueError(f"{targets!r} is no valid regex: {error}") from None
    return targets


Targets = Annotated[list[str] | str, BeforeValidator(_names_or_a_regex)]


class Section(BaseModel):
    """A section of params.yaml: read once, never changed; a key it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Plates(Section):
    """The synthetic domain: drawn dishes with the tasks of UniFood, ScienceQA and Flickr30k."""

    image_size: Annotated[int, Field(ge=24)]  # pixels per side
    sets: dict[Literal["captions", "unifood", "scienceqa", "flickr30k"], Positive]  # number of images


class TinyVision(Section):
    width: Positive
    layers: Positive
    heads: Positive
    patch_size: Positive  # pixels per side
    images: Positive  # drawn for contrastive training, never seen again
    epochs: Positive
    batch: Positive
    learning_rate: LearningRate


class TinyLanguage(Section):
    width: Positive
    layers: Positive
    heads: Positive
    vocabulary: Annotated[int, Field(ge=300)]
    texts: Positive  # dialogues about described plates, written for this training alone
    epochs: Positive
    batch: Positive
    learning_rate: LearningRate


class TinyBase(Section):
    vision: TinyVision
    language: TinyLanguage


class ComposeBase(Section):
    """Any Hugging Face vision encoder and causal language model (folder or hub id), a fresh projector."""

    vision: str
    language: str


class CheckpointBase(Section):
    """A ready LLaVA checkpoint in Hugging Face's format (folder or hub id)."""

    model: str
    revision: str | None


class Base(Section):
    kind: Literal["tiny", "compose", "checkpoint"]
    tiny: TinyBase
    compose: ComposeBase
    checkpoint: CheckpointBase


class Source(Section):
    """One source of data. `annotations` (glob) and `images` lie under `path`.

    `images`: a folder, zip or tar; several of them by the first part of the names; none for WebDataset.
    """

    kind: str
    path: str
    annotations: str
    images: str | dict[str, str] | None


class Splits(Section):
    validation: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Splits:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together must be below 1")
        return self


class Data(Section):
    max_rejected: Annotated[float, Field(ge=0, le=1)]  # share of a source's records
    max_pixels: Positive  # per image, checked before it is decoded
    shard_bytes: Annotated[int, Field(ge=1_000)]
    splits: Splits
    sources: Annotated[dict[str, Source], Field(min_length=1)]


class Vce(Section):
    """Visual Cue Enhancement (paper 3.3). Levels are hidden states of the vision encoder."""

    enabled: bool
    anchor: int
    levels: Annotated[list[int], Field(min_length=1)]
    num_heads: Positive
    num_points: Positive
    scale: float
    start: Literal["paper", "identity"]  # a full cue from the first step, or none: for a projector that is aligned

    @model_validator(mode="after")
    def _anchor_is_a_level(self) -> Vce:
        if self.anchor not in self.levels:
            raise ValueError(f"anchor {self.anchor} must be one of the levels {self.levels}")
        return self

    def misfit(self, width: int, layers: int) -> str | None:
        """Why this cannot read an encoder of so many features and layers; None if it can."""
        for level in self.levels:
            if not -layers - 1 <= level <= layers:
                return (
                    f"vce.levels holds {level}, but the vision encoder has hidden states "
                    f"0 to {layers} (or -1 to {-layers - 1})"
                )
        if width % (len(self.levels) * self.num_heads):
            parts = f"{len(self.levels)} levels * vce.num_heads {self.num_heads}"
            return f"the vision encoder's width {width} must divide by {parts}"
        return None


class VLora(Section):
    """Perceptual weights instead of visual tokens (Ma et al. 2024). Blocks every, 2 * every, ... (from 1) get them."""

    width: Positive  # of the generator
    types: Annotated[list[Literal["q", "k", "v", "o", "m"]], Field(min_length=1)]
    every: Positive
    rank: Positive
    alpha_over_rank: Annotated[float, Field(gt=0)]
    blocks: Positive  # of the generator, per type
    heads: Positive

    @model_validator(mode="after")
    def _fits_together(self) -> VLora:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads ({self.heads})")
        if len(set(self.types)) < len(self.types):
            raise ValueError(f"types {self.types} must name each type once")
        return self


class Connector(Section):
    kind: Literal["projector", "vlora"]
    vlora: VLora

    @property
    def chosen_vlora(self) -> VLora | None:
        return self.vlora if self.kind == "vlora" else None


class DualLora(Section):
    normalize: bool
    activation: Literal["relu", "none", "one", "leaky_relu", "gelu", "silu", "softplus", "sigmoid", "tanh"]


class LoraMoe(Section):
    routing: Literal["softmax", "top_k"]
    num_experts: Positive
    top_k: Positive
    balance_loss: Annotated[float, Field(ge=0)]  # weight of the load-balancing loss; 0 switches it off


class Rode(Section):
    rank_shares: Annotated[list[Positive], Field(min_length=1)]  # of the experts; the ranks sum to adapter.rank


class Adapter(Section):
    """`rank` is that of all experts together where there are several."""

    kind: Literal["lora", "dual_lora", "lora_moe", "rode"]
    rank: Positive
    alpha_over_rank: Annotated[float, Field(gt=0)]
    dropout: Fraction
    targets: Targets
    dual_lora: DualLora
    lora_moe: LoraMoe
    rode: Rode

    @model_validator(mode="after")
    def _ranks_and_experts_agree(self) -> Adapter:
        moe, shares = self.lora_moe, self.rode.rank_shares
        if self.kind == "lora_moe" and self.rank % moe.num_experts:
            raise ValueError(f"rank {self.rank} must divide by lora_moe.num_experts {moe.num_experts}")
        least, most = min(2, moe.num_experts), moe.num_experts  # one expert alone has weight 1, and no router to train
        if self.kind == "lora_moe" and moe.routing == "top_k" and not least <= moe.top_k <= most:
            raise ValueError(f"lora_moe.top_k {moe.top_k} must be between {least} and lora_moe.num_experts {most}")
        if self.kind == "dual_lora" and self.dual_lora.normalize and self.rank < 2:
            raise ValueError("rank must be at least 2 with dual_lora.normalize, got 1: LayerNorm over one feature is 0")
        if self.kind == "rode" and self.rank % sum(shares):
            raise ValueError(f"rank {self.rank} must divide by {sum(shares)}, the sum of rode.rank_shares {shares}")
        return self

    @property
    def rode_ranks(self) -> list[int]:
        shares = self.rode.rank_shares
        return [self.rank // sum(shares) * share for share in shares]


class PretrainRates(Section):
    """Of the parts that a run trains; the others' rates are not used."""

    projector: LearningRate
    vlora: LearningRate
    vce: LearningRate


class FinetuneRates(PretrainRates):
    adapter: LearningRate
    language_model: LearningRate


class Recipe(Section):
    """What both training stages say. An empty list of tasks means all."""

    sources: Annotated[list[str], Field(min_length=1)]
    tasks: list[str]
    template: Template
    image: Literal["crop", "pad"]
    epochs: Positive
    global_batch: Positive  # samples per optimiser step, over all workers
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
)


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
    precision: Literal["fp32", "bf16"]
    zero_stage: Literal[0, 1, 2, 3]
    grad_clip: Annotated[float, Field(ge=0)]  # 0 switches it off
    checkpoint_every_steps: Positive
    max_failures: NotNegative  # worker groups that may be lost before the run gives up
    bad_step: Literal["stop", "skip"]  # what to do with a loss that is no number, or a spike
    spike: Annotated[float, Field(ge=0)]  # a loss above this many times the median of the last 20; 0: never
    max_refused: Annotated[float, Field(ge=0, le=1)]  # share of samples without a supervised token
    deepspeed: dict[str, Any]  # merged over the engine's own configuration

    @property
    def worker_counts(self) -> range:
        """Numbers of workers that a run may have."""
        return range(self.min_workers or self.workers, self.workers + 1)

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
    def _deepspeed_is_told_nothing_twice(self) -> Training:
        for section, key, setting in TOLD_ELSEWHERE:
            inner = self.deepspeed.get(section, {}) if section else self.deepspeed
            if isinstance(inner, dict) and key in inner:
                place = f"{section}.{key}" if section else key
                raise ValueError(f"deepspeed must not set {place}; set {setting}")
        return self


class BenchmarkFiles(Section):
    """A published benchmark's files: questions and gold as `lea score` takes them; a folder, zip or tar of images.

    `split`: of annotations that declare several; null: test.
    """

    questions: str | None = None
    annotations: str
    images: str | None = None
    split: Literal["train", "validation", "test"] | None = None


class Evaluate(Section):
    """Workers, GPUs and batch do not change what is answered."""

    benchmarks: Annotated[list[str], Field(min_length=1)]
    max_new_tokens: Positive
    batch: Positive  # questions at once, per worker
    workers: Positive  # 1: this process; more: so many Ray actors, each with the whole model
    use_gpu: bool  # one for each worker
    bootstrap: Annotated[int, Field(ge=100)]  # resamples
    samples_shown: Positive  # test images in the report
    files: dict[str, BenchmarkFiles]  # of benchmarks that ask published files, not the test split: pope, mme, ..
    judge: Annotated[str, Field(min_length=1)] | None  # model behind OPENAI_BASE_URL for mm_vet and llava_bench


class Tables(Section):
    """The paper's tables on these settings (`make table1`)."""

    seeds: Annotated[list[NotNegative], Field(min_length=1)]  # of training


class Gate(Section):
    """Metrics of the fine-tuned model by name, as in metrics.json under `finetune`."""

    at_least: dict[str, float]
    at_most: dict[str, float]
    not_worse: dict[str, Annotated[float, Field(ge=0)]]  # allowed loss against the champion


class Registry(Section):
    name: str
    gate: Gate


class Asha(Section):
    """Asynchronous successive halving: at grace, grace * reduction, ... epochs the best 1 / reduction go on."""

    grace_epochs: Annotated[float, Field(gt=0)]
    reduction: Annotated[float, Field(gt=1)]


class Budget(Section):
    """What a search may spend; it stops at whichever comes first."""

    trials: Positive
    hours: Annotated[float, Field(gt=0)]
    disk_gb: Annotated[float, Field(gt=0)]  # run state of its trials


class Tune(Section):
    """A search over settings of this tree by the loss on the validation split (`lea tune`).

    `space`: a setting's dotted key -> {choice: [...]}, {uniform: [low, high]}, {log_uniform: [low, high]} or
    {int: [low, high]} (both ends included).
    """

    space: dict[str, dict[Literal["choice", "uniform", "log_uniform", "int"], list[Any]]]
    search: Literal["random", "grid", "tpe"]
    seed: NotNegative  # of what is drawn; the trials themselves train with the seed of all runs
    scheduler: Literal["none", "asha"]
    asha: Asha
    budget: Budget
    concurrent_trials: Positive
    workers_per_trial: Positive
    gpu_per_worker: Annotated[float, Field(gt=0, le=1)]  # where training.use_gpu; a fraction shares one
    report_every_steps: Positive  # validation loss of a running trial
    validation_samples: NotNegative  # about; 0: the whole split
    max_failures: NotNegative  # starts again of a trial whose node was lost

    @model_validator(mode="after")
    def _workers_have_a_gpu_each(self) -> Tune:
        if self.gpu_per_worker < 1 and self.workers_per_trial > 1:
            raise ValueError(f"gpu_per_worker {self.gpu_per_worker} needs workers_per_trial 1: NCCL shares no GPU")
        return self


class Params(Section):
    profile: str
    seed: NotNegative
    plates: Plates
    base: Base
    data: Data
    connector: Connector
    vce: Vce
    adapter: Adapter
    pretrain: Pretrain
    finetune: Finetune
    training: Training
    evaluate: Evaluate
    tables: Tables
    registry: Registry
    tune: Tune

    @model_validator(mode="after")
    def _sections_agree(self) -> Params:
        vision = self.base.tiny.vision
        misfit = self.vce.misfit(vision.width, vision.layers) if self.base.kind == "tiny" and self.vce.enabled else None
        if misfit:
            raise ValueError(misfit)
        for name, recipe in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            for source in recipe.sources:
                if source not in self.data.sources:
                    known = ", ".join(self.data.sources)
                    raise ValueError(f"{name}.sources names {source!r}, which is not in data.sources: {known}")
            for workers in self.training.worker_counts:
                if recipe.global_batch % workers:
                    which = "training.workers" if workers == self.training.workers else "a count down to min_workers"
                    raise ValueError(
                        f"{name}.global_batch must be a multiple of {which} ({workers}), got {recipe.global_batch}"
                    )
        return self


class _OneOfEach(yaml.SafeLoader):
    """Refuses a key that stands twice in a section; PyYAML would take the last one, and say nothing."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for place, (key, _) in enumerate(node.value):
            if key.value in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} stands twice", key.start_mark)
        return super().construct_mapping(node, deep)


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read and validate params.yaml; every mistake becomes one line that names the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path} is missing; run the command in the root of the repository") from None
    try:
        tree = yaml.load(text, _OneOfEach)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}:{where} is not valid YAML: {getattr(error, 'problem', error)}") from None
    return validate_params(tree, str(path))


def validate_params(tree: Any, name: str = str(PARAMS_FILE)) -> Params:
    """Turn a plain tree into Params. `name` is the file that the error line blames."""
    if not isinstance(tree, dict):
        raise UserError(f"{name}: must hold sections of settings, found {type(tree).__name__}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        # A misspelt key first: it is also why another is missing.
        mistakes = sorted(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
        more = f" (and {len(mistakes) - 1} more)" if len(mistakes) > 1 else ""
        raise UserError(f"{name}: {_in_words(mistakes[0])}{more}") from None


_PHRASES = {
    "greater_than_equal": "must be at least {ge}",
    "greater_than": "must be above {gt}",
    "less_than_equal": "must be at most {le}",
    "less_than": "must be below {lt}",
    "literal_error": "must be {expected}",
    "too_short": "must not be empty",
    "missing": "is missing",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}


def _in_words(mistake: Any) -> str:
    kind, where, found = mistake["type"], mistake["loc"], mistake["input"]
    key = ".".join(str(part) for part in where if part != "[key]")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(where[-1]), _known_keys(where[:-1]), n=1)
        hint = f"; did you mean {'.'.join([*map(str, where[:-1]), near[0]])}?" if near else ""
        return f"{key} is not a setting{hint}"
    if kind == "value_error":
        return f"{key + ': ' if key else ''}{mistake['ctx']['error']}"
    phrase = _PHRASES.get(kind, str(mistake["msg"])).format(**mistake.get("ctx", {}))
    return f"{key} {phrase}" if kind == "missing" else f"{key} {phrase}, got {found!r}"


def _known_keys(where: tuple[Any, ...]) -> list[str]:
    section: Any = Params
    for part in where:
        fields = getattr(section, "model_fields", {})
        section = fields[part].annotation if part in fields else None
    return list(getattr(section, "model_fields", {}))
