"""The layer that decoding in steps writes into."""

from __future__ import annotations

import torch
from transformers import LlamaConfig

from components.evaluation.inference.cache import STEP, RoomyLayer, roomy_cache
from components.evaluation.inference.stepped import _SteppedLayer

CONFIG = LlamaConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)


def test_decoding_in_steps_takes_over_the_room_and_empties_it() -> None:
    cache = roomy_cache(CONFIG)
    cache.update(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4), 0)
    filled = cache.layers[0]
    assert isinstance(filled, RoomyLayer)
    assert filled.whole_keys is not None
    filled.whole_keys[:, :, 3:] = torch.nan  # what old memory may hold
    address = filled.whole_keys.data_ptr()
    held = _SteppedLayer(filled, torch.tensor([3]))
    held.grow(STEP - 3)
    keys, _ = held.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))
    assert keys.data_ptr() == address
    assert keys.sum(dim=2).tolist() == [[[4.0] * 4] * 2]
    again = _SteppedLayer(filled, torch.tensor([3]))  # the room has its owner: this one makes its own
    again.grow(STEP - 3)
    assert again.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4))[0].data_ptr() != address
