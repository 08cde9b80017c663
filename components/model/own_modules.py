"""One base for several models in one process: frozen weights are shared, everything that a run changes is its own."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from components.model.base import Base
from components.model.weights import language_parts


def with_own_modules(base: Base, trains_language_model: bool) -> Base:
    """The base with modules of its own around the same frozen weights; those that training changes are copied.

    A run may put in, cut out and cast what it likes: `base` stays as it was read.
    """
    model = base.model
    copied = {id(p) for p in model.model.multi_modal_projector.parameters()}
    if trains_language_model:
        copied |= {id(p) for part in language_parts(model) for p in part.parameters()}
    shared = {id(p): torch.nn.Parameter(p.detach(), requires_grad=False) for p in model.parameters()}
    memo = {number: parameter for number, parameter in shared.items() if number not in copied}
    return replace(base, model=copy.deepcopy(model, memo))  # pyright: ignore
