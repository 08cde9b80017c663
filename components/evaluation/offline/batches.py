"""Lines that OpenAI's Batch API writes, and `vllm run-batch` alike: one for each request, in no order.

{id, custom_id, response: {status_code, body} or null, error}

body of chat completions   {choices: [{message: {content}}, ..]}
body of responses          {output: [{content: [{type: output_text, text}, ..]}, ..]}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KEYS = {"id", "custom_id", "response", "error"}


def is_batch_line(record: Mapping[str, Any]) -> bool:
    """These keys and no others: a record of somebody's own may hold a custom_id too."""
    return record.keys() == _KEYS and isinstance(record["response"], dict | None)


def of_batch_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """`question_id`, which the request was sent under, and `text`: None where the request failed."""
    body = (line["response"] or {}).get("body")
    return {"question_id": line["custom_id"], "text": _text(body) if isinstance(body, dict) else None}


def _text(body: Mapping[str, Any]) -> str | None:
    try:
        if "output" in body:
            parts = [part for item in body["output"] for part in item.get("content") or ()]
            return _joined([part for part in parts if part.get("type") == "output_text"])
        content = body["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    return _joined(content) if isinstance(content, list) else content if isinstance(content, str) else None


def _joined(parts: list[Any]) -> str | None:
    return "".join(str(part.get("text", "")) for part in parts) if parts else None
