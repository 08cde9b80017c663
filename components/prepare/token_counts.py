"""How many tokens the texts of a sample take: enough to group by length and to see what a length limit costs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from components.data.schema import IMAGE_MARKER, Sample
from components.errors import UserError


def count_tokens(tokenizer: Path, samples: Sequence[Sample]) -> list[int]:
    """Tokens of all turns of each sample; the template's own words and the image's places are not in them."""
    texts = [turn.text.replace(IMAGE_MARKER, "") for sample in samples for turn in sample.turns]
    encoded = _tokenizer(tokenizer).encode_batch_fast(texts, add_special_tokens=False)
    lengths = iter([len(one.ids) for one in encoded])
    return [sum(next(lengths) for _ in sample.turns) for sample in samples]


@lru_cache(maxsize=2)
def _tokenizer(path: Path) -> Any:
    from tokenizers import Tokenizer

    if not path.is_file():
        raise UserError(f"{path} is missing; run: dvc repro base")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise UserError(f"{path} is no tokenizer ({error}); run: dvc repro --force base") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
