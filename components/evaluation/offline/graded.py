"""Recorded grades in whichever form a toolkit keeps them, as records of question_id, score or tuple, judge, category.

{"v1_0": {model, content, score: [..]}}, {question_id, tuple: [reference, model]}        the benchmarks' own
a table of index, score and, for LLaVA-Bench, gpt4_score (the reference's)               VLMEvalKit
samples with gpt_eval_score or gpt_eval_llava_all: {score or scores, eval_model, ..}     lmms-eval
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluation.offline.delimited import plain_names
from components.evaluation.offline.files import is_table, json_values, table
from components.evaluation.offline.findings import Findings

_IDS = ("question_id", "index", "id")
_LOGGED = ("gpt_eval_score", "gpt_eval_llava_all")
_GAVE_UP = "retries failed"  # VLMEvalKit's log of a grade that is 0 because no reply was a number


def graded_records(path: Path, findings: Findings) -> list[dict[str, Any]]:
    """Those that have an id; what holds no grade stands among them."""
    values = table(path, findings) if is_table(path, findings) else json_values(path, findings)
    values = [value for value in values if isinstance(value, dict)]
    if len(values) == 1 and not _has_id(values[0]) and "doc_id" not in values[0]:
        values = [{"question_id": id, **value} for id, value in values[0].items() if isinstance(value, dict)]
    records = [_record(value) for value in values]
    zeros = [str(one["question_id"]) for one in records if _GAVE_UP in str(one.get("log")) and "question_id" in one]
    findings.count("replies that are no grade", zeros, f"{path}: its toolkit wrote 0 for them, which counts")
    return [record for record in records if "question_id" in record]


def _has_id(value: Mapping[str, Any]) -> bool:
    return any(str(key).strip().lower() in _IDS for key in value)


def _record(value: Mapping[str, Any]) -> dict[str, Any]:
    record = dict(zip(plain_names(value), value.values(), strict=True))
    logged = next((value[key] for key in _LOGGED if isinstance(value.get(key), dict)), None)
    if logged is not None:
        doc = value["doc"] if isinstance(value.get("doc"), dict) else {}
        record = {"question_id": value.get("doc_id"), "judge": logged.get("eval_model"), **doc, **logged}
        if isinstance(logged.get("scores"), list):
            record["tuple"] = logged["scores"]
    id = next((record[key] for key in _IDS if record.get(key) not in (None, "")), None)
    if "gpt4_score" in record:
        record["tuple"] = [record["gpt4_score"], record.get("score")]
    return record if id is None else {**record, "question_id": id}
