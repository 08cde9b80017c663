"""Lines that OpenAI's Batch API writes, and `vllm run-batch` alike: one for each request, in no order.

{id, custom_id, response: {status_code, body: {choices: [{message: {content}}, ..]}} or null, error}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_batch_line(record: Mapping[str, Any]) -> bool:
    return "custom_id" in record and isinstance(record.get("response"), dict | None) and "error" in record


def of_batch_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """`question_id`, which the request was sent under, and `text`: None where the request failed."""
    return {"question_id": line["custom_id"], "text": _content(line)}


def _content(line: Mapping[str, Any]) -> str | None:
    try:
        content = line["response"]["body"]["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        return None
    if isinstance(content, list):
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else None
