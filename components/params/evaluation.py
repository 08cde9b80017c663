"""What is asked of a model and what must come out: `evaluate`, `tables`, `registry`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.params.section import Name, NotNegative, Positive, Section


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

    benchmarks: Annotated[list[Name], Field(min_length=1)]
    max_new_tokens: Positive
    batch: Positive  # questions at once, per worker
    workers: Positive  # 1: this process; more: so many Ray actors, each with the whole model
    use_gpu: bool  # one for each worker
    bootstrap: Annotated[int, Field(ge=100)]  # resamples
    samples_shown: Positive  # test images in the report
    files: dict[Name, BenchmarkFiles]  # of benchmarks that ask published files, not the test split: pope, mme, ..
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
    name: Name
    gate: Gate
