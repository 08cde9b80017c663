"""Samples that begin alike as one sequence, for trainers that know nothing of it: the Hugging Face Trainer, TRL.

    position   0 1 2   3 4 5 6   3 4 5   3 4 5 6 7
    token      P P P   p a a .   p b .   p c c c .      a prompt P P P p with three answers
    label      - - -   - a a .   - b .   - c c c .
    segment    0 0 0   1 1 1 1   2 2 2   3 3 3 3 3      0: what all branches share

A branch sees the shared part and itself, never another branch, and its positions go on where the shared part ends. The
shared part is causal, so that loss and gradients equal those of the separate samples. The prompt's last token heads
each branch: every label then stands behind the token that predicts it, as a model's own shifted loss reads it.

Needs torch alone. The loop of this project packs without the repeated token (packing.py), for a loss of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Int

IGNORED = -100  # label of a token without loss, as in torch's cross entropy
PADDING = -1  # segment of a place that holds no token

Tokens = Sequence[Sequence[int]]  # of each sample
Branches = Mapping[str, Any]  # "input_ids", "labels": a list of tokens for each sample; other keys: one tensor for all


IMAGES = ("pixel_values", "image_sizes")  # what a model takes of the rows that have an image, in their order


def branches(tokenizer: Any, prompt: str, answers: Sequence[str]) -> dict[str, list[list[int]]]:
    """One prompt and its answers as samples: the loss covers the answers and an end token after each.

    A token that the tokenizer itself puts behind a text (`add_eos_token`) does not stand between prompt and answer.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError("the tokenizer has no end token, which ends each answer; set tokenizer.eos_token")
    asked, words = (tokenizer(prompt, add_special_tokens=special)["input_ids"] for special in (True, False))
    starts = range(len(asked) - len(words), -1, -1)
    end = next((n + len(words) for n in starts if asked[n : n + len(words)] == words), len(asked))
    asked = asked[:end]
    said = [[*tokenizer(each, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id] for each in answers]
    return {
        "input_ids": [asked + answer for answer in said],
        "labels": [[IGNORED] * len(asked) + answer for answer in said],
    }


class TreeCollator:
    """Groups of samples to one batch of a causal language model: input_ids, labels, position_ids, attention_mask.

    Each group has `input_ids` and `labels`, lists with a list for each of its samples, without padding; what else it
    has (pixel_values, one image for the group) is stacked as it is. A group without image has no pixel_values, or None.
    A ValueError says what does not fit.

    Args:
        pad_token_id: fills the shorter sequences up; never seen, never a label.
        additive: None for scaled_dot_product_attention, whose mask is boolean; for `eager` attention the dtype of the
            model, as it adds its mask. Flash attention takes no such mask.
        unique: tokens that may stand once only, as the places of an image.
    """

    def __init__(
        self, pad_token_id: int = 0, *, additive: torch.dtype | None = None, unique: Sequence[int] = ()
    ) -> None:
        self.pad_token_id, self.additive, self.unique = pad_token_id, additive, frozenset(unique)

    def __call__(self, groups: Sequence[Branches]) -> dict[str, Tensor]:
        trees = [lay_out(group["input_ids"], group["labels"], self.unique) for group in groups]
        fillers = {"input_ids": self.pad_token_id, "labels": IGNORED, "position_ids": 0, "segments": PADDING}
        batch = {name: padded([tree[name] for tree in trees], value) for name, value in fillers.items()}
        mask = tree_mask(batch.pop("segments"))
        if self.additive is not None:
            mask = added_mask(mask, self.additive)
        return {**batch, "attention_mask": mask, **_others(groups)}


def lay_out(ids: Tokens, labels: Tokens, unique: frozenset[int] = frozenset()) -> dict[str, list[int]]:
    """input_ids, labels, position_ids and segments of one group; lists of equal length."""
    sizes = [len(tokens) for tokens in ids], [len(aims) for aims in labels]
    if sizes[0] != sizes[1] or not sizes[0]:
        raise ValueError(f"a group's samples have {sizes[0]} input_ids and {sizes[1]} labels; each token needs a label")
    alike = shared_length(ids, labels) if len(ids) > 1 else 0
    shared = max(0, alike - 1)
    if alike and ids[0][shared] in unique:
        raise ValueError(
            f"samples part right after token {ids[0][shared]}, which may not be repeated: let a line break follow it"
        )
    tree = {
        "input_ids": list(ids[0][:shared]),
        "labels": [IGNORED] * shared,
        "position_ids": list(range(shared)),
        "segments": [0] * shared,
    }
    for branch, (tokens, aims) in enumerate(zip(ids, labels, strict=True), start=1):
        tree["input_ids"] += tokens[shared:]
        tree["labels"] += [IGNORED, *aims[shared + 1 :]]  # a branch's first token follows another branch
        tree["position_ids"] += range(shared, len(tokens))
        tree["segments"] += [branch] * (len(tokens) - shared)
    return tree


def shared_length(ids: Tokens, labels: Tokens) -> int:
    """Tokens at the beginning that all samples have in common and none has a label for."""
    shortest = min(next((n for n, label in enumerate(one) if label != IGNORED), len(one)) for one in labels)
    for length, tokens in enumerate(zip(*(one[:shortest] for one in ids), strict=True)):
        if len(set(tokens)) > 1:
            return length
    return shortest


def padded(rows: Tokens, filler: int) -> Int[Tensor, "rows longest"]:
    full = torch.full((len(rows), max(map(len, rows))), filler)
    for place, row in enumerate(rows):
        full[place, : len(row)] = torch.tensor(row, dtype=full.dtype)
    return full


def _others(groups: Sequence[Branches]) -> dict[str, Tensor]:
    """What groups have beside their samples, stacked; images of the groups that have one."""
    found = {}
    for name in dict.fromkeys(name for group in groups for name in group if name not in ("input_ids", "labels")):
        if name in ("attention_mask", "position_ids"):
            raise ValueError(f"groups must not hold {name}: the collator makes it, of samples without padding")
        there = [torch.as_tensor(group[name]) for group in groups if group.get(name) is not None]
        if len(there) not in (0, len(groups)) and name not in IMAGES:
            raise ValueError(
                f"{name} is in {len(there)} of {len(groups)} groups of a batch; give it to each or to none"
            )
        if there:
            found[name] = torch.stack(there)
    return found


def tree_mask(segments: Int[Tensor, "sequences tokens"]) -> Bool[Tensor, "sequences 1 tokens tokens"]:
    """True where the row's token may look at the column's.

    A padding place looks at itself alone, so that its softmax is defined.
    """
    here, there = segments.unsqueeze(2), segments.unsqueeze(1)
    size = segments.shape[1]
    causal = torch.ones(size, size, dtype=torch.bool, device=segments.device).tril()
    seen = causal & ((there == 0) | (there == here)) & (there != PADDING)
    return (seen | torch.eye(size, dtype=torch.bool, device=segments.device)).unsqueeze(1)


def added_mask(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask that is added to scores: 0 where `seen`, elsewhere the lowest number. `eager` attention takes no other."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)
