"""What one request may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.evaluation.inference.assistant import Assistant


@dataclass(frozen=True)
class Limits:
    """Of `lea serve`. Defaults fit a laptop; each is a flag of the command."""

    max_body_bytes: int = 20_000_000
    max_pixels: int = 50_000_000  # of the image of a request, before it is decoded
    max_characters: int = 32_768  # of all texts of a request, before they are tokenised
    max_new_tokens: int = 1024
    max_queue: int = 256  # requests that wait or are being answered, per model
    timeout_s: float = 120.0  # from the first byte of a request to the last of its answer
    rows: int = 32  # answers that grow together, per model
    image_cache_bytes: int = 512_000_000  # keys and values of images that were seen


def context_length(assistant: Assistant) -> int:
    """Tokens that prompt and answer may have together."""
    config: Any = assistant.model.config
    return int(getattr(config.text_config, "max_position_embeddings", 2048))
