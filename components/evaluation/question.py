"""What a model is asked and what is known about the right answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from components.data.schema import IMAGE_MARKER, Row, Sample

Name = tuple[str, str, str]


@dataclass(frozen=True)
class Question:
    """One question of a benchmark.

    `text` is the question without the image's marker. `references` are the true answers as texts, `gold` is
    JSON where texts are not enough. `image` is what the model sees; a wrong one for the blind row. `image_name`
    is where a published question file says it lies, under the benchmark's folder of images.
    """

    id: str
    benchmark: str
    task: str
    text: str
    references: tuple[str, ...]
    gold: str | None = None
    image: bytes | None = None
    image_hash: str | None = None
    group: str = ""
    source: str = ""
    image_name: str | None = None

    @property
    def name(self) -> Name:
        """What distinguishes it from all other questions, whichever image is shown."""
        return self.benchmark, self.source, self.id

    def shown(self, image: bytes, image_hash: str) -> Question:
        """The same question about another image."""
        return replace(self, image=image, image_hash=image_hash)


@dataclass(frozen=True)
class Scores:
    """`metrics`: task -> metric -> value. `each`: the task's main metric, per question."""

    metrics: dict[str, dict[str, float]]
    each: list[float]


def question_from(row: Row, sample: Sample, benchmark: str, references: Iterable[str] = ()) -> Question:
    """The question of a sample's first turn; its last turn is the true answer unless references are given."""
    has_image = row.image is not None  # as in training: an image belongs to all samples of its row
    return Question(
        id=sample.id,
        benchmark=benchmark,
        task=sample.task,
        text=sample.turns[0].text.replace(IMAGE_MARKER, "").strip(),
        references=tuple(references) or (sample.turns[1].text,),
        gold=sample.gold,
        image=row.image if has_image else None,
        image_hash=row.image_hash if has_image else None,
        group=row.group,
        source=row.source,
    )


def each_sample(rows: Iterable[Row], benchmark: str, tasks: Iterable[str]) -> Iterator[Question]:
    """One question for each sample of these tasks, in the order of the rows."""
    wanted = set(tasks)
    for row in rows:
        for sample in row.samples:
            if sample.task in wanted:
                yield question_from(row, sample, benchmark)
