"""Samples as lmms-eval logs them (samples_<task>.jsonl, or `logs` of its earlier JSON): one record for each.

    {doc_id, input, target, filtered_resps, <metric>: {question_id, ..}, ..}      and `doc`, `arguments` in earlier ones

What is known of the question stands in `doc` or in what a metric keeps; a sample without any id is known by its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.evaluation.offline.names import ID_KEYS, TEXT_KEYS, one_text

_ABSENT = "nan"  # what it writes for an option that a question has not


def is_log(record: Mapping[str, Any]) -> bool:
    return "filtered_resps" in record and "doc_id" in record


def of_log(sample: Mapping[str, Any]) -> dict[str, Any]:
    """The question's fields with `prompt` and `prediction` (None where the model did not write one text)."""
    fields: dict[str, Any] = {}
    kept = [value for key, value in sample.items() if key != "doc" and isinstance(value, dict)]
    for inner in (sample.get("doc"), *kept):
        for key, value in inner.items() if isinstance(inner, dict) else ():
            if key not in TEXT_KEYS and isinstance(value, str | int | float):
                fields.setdefault(key, value)
    for letter in "ABCDE":
        if fields.get(letter) == _ABSENT:
            del fields[letter]
    if not fields.keys() & set(ID_KEYS):
        fields["id"] = f"sample {sample['doc_id']}"
    if isinstance(sample.get("target"), str):
        fields.setdefault("target", sample["target"])
    text = one_text(sample["filtered_resps"])
    return {**fields, "prompt": _asked(sample), "prediction": text if isinstance(text, str) else None}


def _asked(sample: Mapping[str, Any]) -> str:
    asked = sample.get("input", sample.get("arguments"))
    while isinstance(asked, list) and asked:
        asked = asked[0]
    return asked if isinstance(asked, str) else ""
