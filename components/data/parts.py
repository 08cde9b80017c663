"""Text that comes in parts, as training data and chat requests have it."""

from __future__ import annotations

from collections.abc import Iterable


def joined(texts: Iterable[str]) -> str:
    """The text parts of one turn as one text, a blank between them: the chat template of llava-hf/llava-1.5-7b-hf."""
    return " ".join(texts)
