"""The vision tower computes no block whose output nobody reads.

LLaVA reads hidden state -2 of CLIP: the last block is computed, and kept in memory, for nothing.
"""

from __future__ import annotations

from typing import Any

from torch import nn


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


def _blocks(tower: nn.Module, count: int) -> nn.ModuleList | None:
    """The list of transformer blocks, whatever a tower calls it; None where there is no such list."""
    lists = [module for module in tower.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    return lists[0] if len(lists) == 1 else None
