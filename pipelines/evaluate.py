"""Stage `evaluate`: the test questions, answered by four systems and one constant, and scored.

    base      the base model as it came            blind   stage 2 shown the image of another dish
    pretrain  after stage 1                        mean    nutrition only: the training data's mean, whatever is shown
    finetune  after stage 2

All are asked in stage 2's template. Answers are kept in run state as they come; a stage that was killed goes on, and
a question that failed is recorded with its reason.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.data.schema import Row
from components.data.tasks import nutrition_answer
from components.digests import file_digest
from components.errors import UserError
from components.evaluation import measuring
from components.evaluation.benchmarks.scienceqa import letters
from components.evaluation.blind import with_wrong_images
from components.evaluation.inference.systems import Systems
from components.evaluation.insight import gallery
from components.evaluation.metrics.choice import confusion
from components.evaluation.metrics.nutrition import mean_nutrition
from components.evaluation.question import Question
from components.evaluation.results import Results, difference_line, differences, printed_table, write_answers
from components.files import fresh_folder, write_json, write_text
from components.metrics import PRINTED, WITH_IMAGE, flat_metrics
from components.model.stored import model_digest, read_reference, read_settings
from components.params import Params
from components.tracking.records import seal
from components.workspace import (
    ANSWERS,
    ASSIGNMENTS,
    BASE,
    EVALUATION,
    FINETUNE,
    INSIGHT,
    MANIFEST,
    MEASURED,
    METRICS,
    PREPARED,
    PRETRAIN,
)
from pipelines import stage

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant

JUDGED_NOTE = "Answers and grades of benchmarks that a judge grades. This file alone: none of them was asked.\n"
PARTS = {"base": None, "pretrain": PRETRAIN, "finetune": FINETUNE, "blind": FINETUNE}


def run(params: Params) -> None:
    asked, judged = measuring.all_questions(params, PREPARED, ASSIGNMENTS)
    systems = Systems(BASE, PARTS, params.finetune, params.evaluate)
    results = Results()
    for row, questions_of_row in {**dict.fromkeys(PARTS, asked), "blind": with_wrong_images(asked)}.items():
        if questions_of_row:
            results.add(row, questions_of_row, systems.answers(row, questions_of_row))
    if any(question.task == "nutrition" for question in asked):
        from components.batching.sampler import split_rows

        train = split_rows(PREPARED, ASSIGNMENTS, params.finetune.sources, "train")
        results.add("mean", *mean_answers(asked, train))
    begin()
    measuring.add_judged(results, systems, judged, params.evaluate, EVALUATION / "judged")
    found = differences(results, resamples=params.evaluate.bootstrap, seed=params.seed)
    write_json(MEASURED, measured(params, asked, judged, results, found))
    write(params, asked, results, found, systems.assistant("finetune"))
    tell(results, found)


def begin() -> None:
    """metrics.json comes last: where it is, the rest is whole."""
    EVALUATION.mkdir(exist_ok=True)
    for path in (METRICS, MEASURED):
        path.unlink(missing_ok=True)
    shutil.rmtree(EVALUATION / "judged", ignore_errors=True)
    (EVALUATION / "judged").mkdir()
    write_text(EVALUATION / "judged" / "README.md", JUDGED_NOTE)  # DVC warns of an empty folder


def measured(
    params: Params, asked: Sequence[Question], judged: measuring.Judged, results: Results, found: dict
) -> dict[str, Any]:
    """What the figures of the fine-tuned row belong to: the stage `register` compares it with what is there."""
    stated = {
        "model": model_digest(FINETUNE),
        "base": read_reference(BASE)["digest"],
        "data": data_digests(params),
        "template": params.finetune.template,
        "image": params.finetune.image,
        "conditions": measuring.conditions(asked, judged, params.evaluate),
        "sighted": measuring.sighted(results),
    }
    return {**stated, "seal": seal(as_tree(results, found), stated)}


def data_digests(params: Params) -> dict[str, str]:
    """Digest of every source that is evaluated, and of the splits."""
    manifests = {name: PREPARED / name / MANIFEST for name in params.finetune.sources}
    found = {name: json.loads(path.read_text(encoding="utf-8"))["digest"] for name, path in manifests.items()}
    return {**found, "splits": file_digest(ASSIGNMENTS)}


def as_tree(results: Results, found: dict) -> dict[str, Any]:
    """The content of metrics.json."""
    return {**results.metrics, "differences": found}


def measure_again(params: Params, base: Path, parts: Path, like: Mapping[str, Any]) -> measuring.Metrics:
    """The fine-tuned row of another model, under the conditions of `like`; UserError where those are not here."""
    asked, judged = measuring.all_questions(params, PREPARED, ASSIGNMENTS)
    if measuring.conditions(asked, judged, params.evaluate) != like:
        raise UserError(
            "data, settings, code or libraries here are not those of the evaluation; run: dvc repro -sf evaluate"
        )
    return measuring.fine_tuned_row(params, base, parts, asked, judged, read_settings(parts))


def mean_answers(asked: Sequence[Question], train: Iterable[Row]) -> tuple[list[Question], list[str]]:
    """The nutrition questions, all answered with the training data's mean."""
    golds = [sample.gold for row in train for sample in row.samples if sample.task == "nutrition" and sample.gold]
    if not golds:
        return [], []
    mean = nutrition_answer(mean_nutrition([json.loads(gold) for gold in golds]))
    estimated = [question for question in asked if question.task == "nutrition"]
    return estimated, [mean] * len(estimated)


def write(params: Params, asked: Sequence[Question], results: Results, found: dict, assistant: Assistant) -> None:
    write_answers(ANSWERS, results)
    with fresh_folder(EVALUATION / "plots") as folder:
        write_confusion(folder / "choice.csv", results)
    with fresh_folder(INSIGHT) as folder:
        write_insight(folder, params, asked, results, assistant)
    write_json(METRICS, as_tree(results, found))


def write_confusion(path: Path, results: Results) -> None:
    """The fine-tuned model's letters, for `dvc plots` (template confusion)."""
    answers = list(results.of_task("finetune", "choice").values())
    table = confusion(*letters([answer.question for answer in answers], [answer.text for answer in answers]))
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.DictWriter(stream, ["actual", "predicted"])
        lines.writeheader()
        lines.writerows(table)


def write_insight(
    folder: Path, params: Params, asked: Sequence[Question], results: Results, assistant: Assistant
) -> None:
    """Test images with answers, heat maps and occlusion; the skill space; how experts are used."""
    from components.batching.collator import MAX_PIXELS
    from components.evaluation.insight.experts import write_experts
    from components.evaluation.insight.skill_space import write_skill_space

    entries = []
    for place, of_image in enumerate(gallery.choose(asked, params.evaluate.samples_shown)):
        picture = gallery.save_image(folder, place, of_image[0], MAX_PIXELS)
        heat_map = gallery.save_heat_map(folder, place, picture, assistant)
        occlusion = gallery.save_occlusion(folder, place, picture, assistant, of_image, results)
        entries.append(gallery.entry(place, of_image, results, heat_map, occlusion))
    write_json(folder / "samples.json", entries)
    write_skill_space(folder, assistant, asked, MAX_PIXELS)
    write_experts(folder / "experts.csv", assistant, asked, MAX_PIXELS)


def tell(results: Results, found: dict[str, dict[str, float | int | None]]) -> None:
    has = flat_metrics(results.metrics["finetune"])
    lines = printed_table(results.metrics, [WITH_IMAGE[n] if WITH_IMAGE.get(n) in has else n for n in PRINTED])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    for name, interval in found.items():
        print(difference_line(name, interval))
    print(f"evaluate: metrics, answers and samples -> {EVALUATION}; see also: dvc metrics show")


if __name__ == "__main__":
    stage.main(run)
