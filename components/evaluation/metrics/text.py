"""Text against one or several references: SacreBLEU of a corpus and ROUGE-L of a sample, both 0..100.

BLEU is sacrebleu's corpus_bleu with its default signature (13a tokens, exponential smoothing, up to
4-grams). ROUGE-L is the F measure of rouge-score without stemming, the best reference where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from typing import Any


def bleu(answers: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus SacreBLEU. `references[i]` are those of `answers[i]`; their number may differ."""
    from sacrebleu import corpus_bleu

    streams = [list(stream) for stream in zip_longest(*references)]
    return corpus_bleu(list(answers), streams).score  # pyright: ignore[reportArgumentType]


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """F measure of the longest common subsequence of words, against the best reference."""
    return 100 * max(_scorer().score(reference, answer)["rougeL"].fmeasure for reference in references)


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)
