"""Answers that are not to be learnt as they stand: they would be trained on like any other.

{"messages": [..], "label": false}                   KTO: the answer is a bad one (ms-swift, TRL, LLaMA-Factory)
{"role": "assistant", "content": .., "loss": false}  left out of the loss (ms-swift, XTuner, AgentInstruct)
{.., "train": false}  {.., "weight": 0}              the same in Axolotl, and in OpenAI's chat files
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.data.schema import Turn
from components.sources.entry import Malformed

_OF_A_RECORD = ("label", "kto_tag")
_PLACEHOLDERS = ("<bbox>", "<ref-object>")
_OF_A_TURN = ("loss", "train", "training", "weight", "loss_weight", "loss_scale")


def check_record(record: Mapping[str, Any]) -> None:
    """Malformed where the whole record is a bad example. A number under `label` is a class."""
    key = next((key for key in _OF_A_RECORD if record.get(key) is False), None)
    if key:
        raise Malformed(f"{key} is false", "answer_not_wanted")


def check_answer(turn: Mapping[str, Any], place: str) -> None:
    """Malformed where an answer is marked as not to be trained on: labels here cover every answer."""
    key = next((key for key in _OF_A_TURN if _is_off(turn.get(key))), None)
    if key:
        raise Malformed(f"{place}.{key} is {turn[key]}", "answer_not_wanted")


def check_turns(record: Mapping[str, Any], turns: Sequence[Turn]) -> None:
    """Malformed where the text of the answers stands elsewhere in the record."""
    empty = next((mark for mark in _PLACEHOLDERS for turn in turns if mark in turn.text), None)
    if empty and record.get("objects"):
        raise Malformed(f"{empty} stands for a value of objects, which is not put in here")
    pair = record.get("chosen") is not None and record.get("rejected") is not None
    if pair and turns and turns[-1].role == "human":
        raise Malformed("a pair of answers to compare, chosen and rejected, and none to learn")


def _is_off(value: Any) -> bool:
    return isinstance(value, bool | int | float) and not value
