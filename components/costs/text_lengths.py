"""How long the texts of a recipe's samples are, counted in the data that is prepared."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.costs.samples import is_prepared
from components.errors import UserError
from components.params import Params, Recipe
from components.workspace import PREPARED

# Tokens that the template adds to a sample of one turn, as Vicuna's tokenizer counts them.
# v1: the system text and "USER:" are the 35 before LLaVA-1.5's image tokens; 5 for "ASSISTANT:", 1 for the end.
# chat: of ChatML with a system text of a sentence, as SmolLM2-Instruct's; each base has a template of its own.
TEMPLATE_TOKENS = {"plain": 1, "v1": 41, "chat": 31}
INDEX = "index.parquet"


def mean_text_tokens(params: Params, recipe: Recipe, most: int, root: Path = Path()) -> int | None:
    """Mean tokens of a training sample beside its image, each cut at `most`; None where a source is not prepared.

    The index that `prepare` writes has the tokens of each sample (components/data/shards.py); the template's are added.
    `root` is the folder of the workspace.
    """
    total = samples = 0
    template = TEMPLATE_TOKENS[recipe.template]
    for source in recipe.sources:
        if not is_prepared(params, source, root):
            return None
        for task, tokens in _lengths(root / PREPARED / source / INDEX):
            if not recipe.tasks or task in recipe.tasks:
                total += min(tokens + template, most)
                samples += 1
    return max(1, round(total / samples)) if samples else None


def _lengths(index: Path) -> list[tuple[str, int]]:
    """Task and tokens of every sample; of a row whose tokens were not counted, none."""
    try:
        table = pq.read_table(index, columns=["tasks", "tokens"])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{index} cannot be read ({str(error).splitlines()[0]}); run: dvc repro prepare") from None
    rows = zip(table["tasks"].to_pylist(), table["tokens"].to_pylist(), strict=True)
    return [pair for tasks, tokens in rows if len(tasks) == len(tokens) for pair in zip(tasks, tokens, strict=True)]
