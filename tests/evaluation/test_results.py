from __future__ import annotations

import json

import pytest

from components.evaluation.benchmarks import BENCHMARKS, PUBLISHED
from components.evaluation.inference.journal import Failed
from components.evaluation.question import Question
from components.evaluation.results import Results

GOLDS = {
    "unifood": ("ingredients", ["rice"]),
    "scienceqa": ("choice", "A"),
    "flickr30k": ("caption", None),
    "chat": ("chat", None),
    "pope": ("pope_random", "yes"),
    "mme": ("mme_count", "yes"),
    "mmbench": ("mmbench", {"answer": "A", "options": {"A": "x"}, "category": ""}),
    "seed_bench": ("seed_image", {"answer": "A", "options": {"A": "x"}, "dimension": ""}),
}


@pytest.mark.parametrize("name", [*BENCHMARKS, *(PUBLISHED.keys() - BENCHMARKS.keys())])
def test_a_question_that_failed_is_wrong_in_every_benchmark(name: str) -> None:
    """To POPE's rule an empty answer is a yes; a question without an answer must not be right."""
    task, gold = GOLDS[name]
    question = Question("1", name, task, "?", ("a dish of rice",), gold=json.dumps(gold), group="1")
    results = Results()
    results.add("finetune", [question], [Failed("out of memory")])
    (answer,) = results.answers["finetune"]
    assert (answer.text, answer.score, answer.failed) == ("", 0.0, "out of memory")
    assert results.metrics["finetune"][task]["failed"] == 1
