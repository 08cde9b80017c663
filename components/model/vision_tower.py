"""The vision tower computes no block whose output nobody reads, and nothing twice where its output may be kept.

LLaVA reads hidden state -2 of CLIP: the last block is computed, and kept in memory, for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling


def stop_after_last_level(llava: nn.Module) -> int:
    """Remove the tower's blocks above the highest level that is read; returns how many.

    Levels are counted from the front from then on, for counting from the end has another meaning now. The model in
    memory alone is changed: what is stored has nothing of the tower in it.
    """
    tower: Any = llava.model.vision_tower  # pyright: ignore
    count = tower.config.num_hidden_layers
    levels: Any = llava.config.vision_feature_layer  # pyright: ignore
    from_front = [level % (count + 1) for level in ([levels] if isinstance(levels, int) else levels)]
    blocks = _blocks(tower, count)
    if blocks is None:
        return 0
    unused = count - max(from_front)
    del blocks[count - unused :]
    tower.config.num_hidden_layers = count - unused
    llava.config.vision_feature_layer = from_front[0] if isinstance(levels, int) else from_front  # pyright: ignore
    return unused


def remember_features(
    llava: nn.Module, known: dict[bytes, dict[int, Tensor]], has_room: Callable[[Sequence[Tensor]], bool]
) -> None:
    """Let a frozen tower on a CPU look up hidden states that it has computed for the same batch of images.

    known: digest of the pixels -> level, counted from the front -> hidden state (images, tokens, width). It may be
    shared by models of one base: a level is the same whichever others are read. has_room: whether more may be kept.
    Call it after `stop_after_last_level`. A tower that drops out at random stays as it is.
    """
    tower: Any = llava.model.vision_tower  # pyright: ignore
    chosen: Any = llava.config.vision_feature_layer  # pyright: ignore
    levels = [chosen] if isinstance(chosen, int) else list(chosen)
    if min(levels) < 0 or _drops_out(tower):
        return
    compute = tower.forward

    def forward(pixel_values: Tensor, **settings: Any) -> BaseModelOutputWithPooling:
        if pixel_values.is_cuda:
            return compute(pixel_values, **settings)
        key = blake2b(pixel_values.contiguous().view(torch.uint8).numpy().data, digest_size=16)
        key.update(repr((tuple(pixel_values.shape), pixel_values.dtype)).encode())
        found = known.get(key.digest(), {})
        missing = [level for level in levels if level not in found]
        if missing:
            states = compute(pixel_values, **settings).hidden_states
            if not has_room([states[level] for level in missing]):
                return BaseModelOutputWithPooling(hidden_states=states)
            found = known.setdefault(key.digest(), {})
            found.update({level: states[level] for level in missing})
        places = range(max(levels) + 1)
        return BaseModelOutputWithPooling(hidden_states=tuple(found.get(place) for place in places))  # pyright: ignore

    tower.forward = forward


def _drops_out(tower: Any) -> bool:
    rates = (value for name, value in tower.config.to_dict().items() if "dropout" in name or "drop_path" in name)
    return any(rates) or any(isinstance(module, nn.Dropout) and module.p for module in tower.modules())


def _blocks(tower: nn.Module, count: int) -> nn.ModuleList | None:
    """The list of transformer blocks, whatever a tower calls it; None where there is no such list."""
    lists = [module for module in tower.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return lists[0] if len(lists) == 1 else None
