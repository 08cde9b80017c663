"""The cache with room against transformers' own."""

from __future__ import annotations

import torch
from transformers import DynamicCache, LlamaConfig, Qwen2Config

from components.evaluation.inference.cache import STEP, RoomyLayer, roomy_cache

CONFIG = LlamaConfig(num_hidden_layers=1, hidden_size=8, num_attention_heads=2)


def test_what_is_held_equals_transformers_own_through_growth_and_choice_of_rows() -> None:
    ours, theirs = roomy_cache(CONFIG), DynamicCache(config=CONFIG)
    generator = torch.Generator().manual_seed(0)
    rows = 3
    for turn, length in enumerate([5, 1, 1, STEP, 1, 4, 1, 1]):
        keys, values = torch.randn(2, rows, 2, length, 4, generator=generator)
        for held, expected in zip(ours.update(keys, values, 0), theirs.update(keys, values, 0), strict=True):
            assert torch.equal(held, expected)
        assert ours.get_seq_length() == theirs.get_seq_length()
        if turn in (1, 4):  # repeated, then fewer
            chosen = torch.tensor([2, 0, 0, 1] if turn == 1 else [3, 1])
            ours.batch_select_indices(chosen)
            theirs.batch_select_indices(chosen)
            rows = len(chosen)


def test_a_token_is_written_into_its_place() -> None:
    cache = roomy_cache(CONFIG)
    first, _ = cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    second, _ = cache.update(torch.ones(1, 2, 1, 4), torch.ones(1, 2, 1, 4), 0)
    assert first.data_ptr() == second.data_ptr()


def test_chosen_rows_have_room_at_once() -> None:
    cache = roomy_cache(CONFIG)
    cache.update(torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 3, 4), 0)
    cache.batch_select_indices(torch.tensor([1, 0, 1]))
    filled = cache.layers[0]
    assert isinstance(filled, RoomyLayer)
    assert filled.keys is not None
    address = filled.keys.data_ptr()
    more, _ = cache.update(torch.ones(3, 2, 1, 4), torch.ones(3, 2, 1, 4), 0)
    assert more.data_ptr() == address


def test_layers_with_a_sliding_window_stay_transformers_own() -> None:
    kinds = ["sliding_attention", "full_attention"]
    config = Qwen2Config(num_hidden_layers=2, layer_types=kinds, use_sliding_window=True, sliding_window=4)
    assert [isinstance(layer, RoomyLayer) for layer in roomy_cache(config).layers] == [False, True]


def test_room_for_what_follows_is_made_at_first() -> None:
    cache = roomy_cache(CONFIG, more=STEP)
    first, _ = cache.update(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 0)
    second, _ = cache.update(torch.ones(1, 2, STEP, 4), torch.ones(1, 2, STEP, 4), 0)
    assert first.data_ptr() == second.data_ptr()


def test_beams_in_another_order_and_repeated_rows_stay_so() -> None:
    ours, theirs = roomy_cache(CONFIG), DynamicCache(config=CONFIG)
    for length in (3, 1):
        keys, values = torch.randn(2, 2, 2, length, 4, generator=torch.Generator().manual_seed(length))
        if length == 1:
            for cache in (ours, theirs):
                cache.reorder_cache(torch.tensor([1, 0]))  # pyright: ignore[reportArgumentType]
        for held, expected in zip(ours.update(keys, values, 0), theirs.update(keys, values, 0), strict=True):
            assert torch.equal(held, expected)
    for cache in (ours, theirs):
        cache.batch_repeat_interleave(2)
    more = torch.zeros(4, 2, 1, 4)
    assert torch.equal(ours.update(more, more, 0)[0], theirs.update(more, more, 0)[0])
