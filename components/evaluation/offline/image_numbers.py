"""Image names in answers that are numbers of their own: 001.jpg for the benchmark's 000.jpg, or one for each question.

Such a name is another image's name here, and contradicts an id that is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from components.evaluation.offline.answers import Given
from components.evaluation.offline.findings import Findings
from components.evaluation.offline.questions import plain_words, stem
from components.evaluation.offline.words import Index

_MOST = 0.9  # of the answers that have words must have those of the question with their id


def without_own_numbers(
    given: Sequence[Given], by_id: Sequence[list[int]], index: Index, path: Path, findings: Findings
) -> Sequence[Given]:
    """The answers without numeric image names, where these are a numbering of their own and the ids are right."""
    numeric = [n for n, answer in enumerate(given) if by_id[n] and stem(answer.image).isdecimal()]
    if not any(index.names_an_image(given[n]) for n in numeric) or not _are_own(numeric, given, by_id, index):
        return given
    dropped = set(numeric)
    findings.count(
        "answers about an image of another name",
        [given[n].id for n in numeric],
        f"{path}: its numbers of images are not those of the questions; joined without them",
    )
    return [replace(answer, image="") if n in dropped else answer for n, answer in enumerate(given)]


def _are_own(numeric: Sequence[int], given: Sequence[Given], by_id: Sequence[list[int]], index: Index) -> bool:
    """Words that only one question has decide; without them, names that no image of the questions has."""
    own = {n: plain_words(given[n].prompt) for n in numeric}
    spoken = [n for n in numeric if own[n]] if len(index.by_words) > 1 else []
    agreeing = [n for n in spoken if any(index.fits(replace(given[n], image=""), place) for place in by_id[n])]
    if len(agreeing) < _MOST * len(spoken):
        return False
    sure = [n for n in agreeing if [len(index.by_words[text]) for text in index.texts_of(own[n])] == [1]]
    if sure:
        return sum(not _has_its_image(given[n], by_id[n], index) for n in sure) > len(sure) / 2
    unknown = sum(not index.names_an_image(given[n]) for n in numeric)
    return unknown > len(numeric) / 2 or (unknown > 0 and _is_shifted(numeric, given, by_id, index))


def _has_its_image(answer: Given, places: Sequence[int], index: Index) -> bool:
    return any(index.stems[place] == stem(answer.image) for place in places)


def _is_shifted(numeric: Sequence[int], given: Sequence[Given], by_id: Sequence[list[int]], index: Index) -> bool:
    """All numbers are off by the same."""
    theirs = [(int(stem(given[n].image)), index.stems[by_id[n][0]]) for n in numeric]
    if not all(name.isdecimal() for _, name in theirs):
        return False
    shifts = {number - int(name) for number, name in theirs}
    return len(shifts) == 1 and shifts != {0}
