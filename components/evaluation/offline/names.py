"""Names under which records hold an answer and what it belongs to."""

from __future__ import annotations

from typing import Any

ID_KEYS = (
    *("question_id", "index", "id", "image_id", "image"),
    *("questionid", "image_path", "file_name", "filename"),  # where a record has none of the first
)
# No "answer": that is what is right in MMBench's and SEED-Bench's files, which would then score 100.
TEXT_KEYS = (
    *("text", "prediction", "pred", "output", "response", "caption"),
    *("predict", "pred_answer", "model_answer", "model_output"),
    *("generated_text", "outputs", "generation", "completion"),
)
# Of what is right, where `answer` is the model's; the last is lmms-eval's.
RIGHT_KEYS = ("label", "gt_answer", "gt_answers", "ground_truth", "annotation", "target")


def one_text(value: Any) -> Any:
    """A text that stands alone in a list, as batches of one are written, by itself."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value
