"""What is asked of a model and what must come out: `evaluate`, `tables`, `registry`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from components.params.section import Name, NotNegative, Positive, Section

PathName = Annotated[str, Field(min_length=1)]


class BenchmarkFiles(Section):
    """A published benchmark's files: questions and gold as `lea score` takes them; a folder, zip or tar of images.

    `split`: of annotations that declare several; null: test.
    """

    questions: PathName | None = None
    annotations: PathName
    images: PathName | None = None
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

    seeds: Annotated[list[NotNegative], Field(min_length=1)]  # of training, for table1
    others: Positive  # so many of them, the first, for each other table


Margin = Annotated[float, Field(ge=0)]


class Gate(Section):
    """Metrics of the fine-tuned model by name, as in metrics.json under `finetune`. Empty: nothing is judged.

    `better_than_blind`: by how much it must beat itself when it is shown the image of another dish. `not_worse`: the
    loss that is allowed against the champion (`champion`), or against the best that any champion has had (`best`).
    """

    at_least: dict[str, float]
    at_most: dict[str, float]
    not_worse: dict[str, Margin]
    better_than_blind: dict[str, Margin] = Field(default={})
    compare_with: Literal["best", "champion"] = "best"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that it names."""
        return tuple(dict.fromkeys([*self.at_least, *self.at_most, *self.not_worse, *self.better_than_blind]))


class Registry(Section):
    name: Name
    gate: Gate
