"""Greedy decoding for GPUs: shapes stay the same from token to token, and the host looks only now and then.

A cache that grows by a token changes the shape of every attention at every token: kernels are planned anew (cuDNN
builds a plan for each key length), and a choice of tokens on the host makes the device wait for Python. Here

    keys, values   (rows, heads, length, head width), `length` a multiple of STEP; a token is written at its place
    mask           (rows, 1, 1, length), 0 where a row may look and the lowest number elsewhere
    choice         the likeliest token, the end marks met and the answers stay on the device
    look           every LOOK_EVERY tokens the host asks whether all rows have ended
    graph          on CUDA the steps after the first few are replayed from a graph: one launch a token, no Python

`decode_growing` in answering.py is the plain twin: the same tokens, by the cache that grows.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from components.adapters.fast import can_launch, for_replay
from components.evaluation.inference.cache import STEP, Prefilled, RoomyLayer
from components.model.vlora import ARGUMENT

LOOK_EVERY = 8  # tokens
CAPTURE_AFTER = 3  # steps as they are
CAPTURE_FOR = 16  # a graph is captured where so many steps can be left: that costs as much as two or three


def attention_without_plans(device: torch.device) -> AbstractContextManager[Any]:
    """On a GPU: without cuDNN's attention, which builds a plan for each length that it has not met, 50 ms a time.

    Prompts have any length, and one is read once; training has few lengths and keeps cuDNN's, the fastest there.
    """
    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(kernels) if device.type == "cuda" else nullcontext()


def can_decode_in_steps(model: Any, read: Prefilled) -> bool:
    """Full attention that takes a mask of numbers, in every layer."""
    plain = all(isinstance(layer, DynamicLayer) and not layer.is_sliding for layer in read.cache.layers)
    return plain and model.config.text_config._attn_implementation in ("sdpa", "eager")


def decode_in_steps(model: Any, read: Prefilled, stops: frozenset[int], max_new_tokens: int) -> list[list[int]]:
    """The answers' tokens without their end mark, as `decode_growing` gives them."""
    captured = can_launch(read.mask) and model not in _NOT_CAPTURED
    state = SteppedDecoding(model, read, stops, max_new_tokens, captured=captured)
    for count in range(1, max_new_tokens):
        if (count % LOOK_EVERY == 0 or state.captures_next) and bool(state.ended.all()):
            break
        if state.is_full:
            state.grow()
        state.step()
    return [_until(tokens, stops) for tokens in state.answers.tolist()]


class SteppedDecoding:
    """The state of a batch that answers. `step` runs on the device alone: it reads no value on the host.

    captured: steps are replayed from a CUDA graph, one for each length of the cache, without Python between the
    kernels. The first CAPTURE_AFTER steps after `grow` run as they are; the next is captured, if CAPTURE_FOR steps can
    follow. A model whose step cannot be captured goes on as it is, with one warning.
    """

    def __init__(
        self, model: Any, read: Prefilled, stops: frozenset[int], max_new_tokens: int, *, captured: bool = False
    ) -> None:
        self._model, rows, device = model, len(read.mask), read.mask.device
        self._filled = read.mask.shape[1]
        self._stops = torch.tensor(sorted(stops), device=device)
        self._extra = {ARGUMENT: read.weights} if read.weights is not None else {}
        self._hidden = torch.finfo(model.dtype).min
        self._place = torch.tensor([self._filled], device=device)
        self._count = torch.tensor([0], device=device)
        self._tokens = torch.zeros(rows, 1, dtype=torch.long, device=device)
        self._positions = read.mask.sum(dim=1, keepdim=True)
        self._mask = torch.where(read.mask.bool(), 0.0, self._hidden).to(model.dtype)[:, None, None, :]
        self._cache = DynamicCache(config=model.config.text_config)
        self._layers = [_SteppedLayer(layer, self._place) for layer in read.cache.layers]
        layers: list[Any] = [*self._layers]
        self._cache.layers = layers
        self.answers = self._stops[:1].repeat(rows, max_new_tokens)  # what is not reached reads as an end
        self.ended = torch.zeros(rows, dtype=torch.bool, device=device)
        self._captured, self._steps = captured, 0  # since the cache grew
        self._left = max_new_tokens - 1  # steps; the first token is in the logits
        self._graph: torch.cuda.CUDAGraph | None = None
        self.grow()
        self._choose(read.logits)

    @property
    def is_full(self) -> bool:
        return self._filled == self._mask.shape[-1]

    @property
    def captures_next(self) -> bool:
        """Whether the next step is captured."""
        may_follow = min(self._left, self._mask.shape[-1] - self._filled)
        fresh = self._captured and self._graph is None
        return fresh and self._steps == CAPTURE_AFTER and may_follow >= CAPTURE_FOR

    def grow(self) -> None:
        """Make room up to the next multiple of STEP."""
        more = STEP - self._filled % STEP
        self._graph, self._steps = None, 0  # a graph writes into the tensors as they were
        self._mask = torch.nn.functional.pad(self._mask, (0, more), value=self._hidden)
        for layer in self._layers:
            layer.grow(more)

    def step(self) -> None:
        """Read the chosen token of every row and choose the next."""
        if self.captures_next:
            self._graph = _capture(self._advance, self._model)
            self._captured = self._graph is not None
        if self._graph is not None:
            self._graph.replay()
        elif self._captured:
            _on_another_stream(self._advance)
        else:
            self._advance()
        self._steps += 1
        self._filled += 1
        self._left -= 1

    def _advance(self) -> None:
        self._mask.index_fill_(3, self._place, 0.0)
        output = self._model(
            input_ids=self._tokens,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            **self._extra,
        )
        self._positions.add_(1)
        self._place.add_(1)
        self._choose(output.logits[:, -1])

    def _choose(self, logits: Tensor) -> None:
        self._tokens.copy_(logits.argmax(dim=-1, keepdim=True))
        self.answers.index_copy_(1, self._count, self._tokens)
        self._count.add_(1)
        self.ended.logical_or_(torch.isin(self._tokens[:, 0], self._stops))


class _SteppedLayer(DynamicLayer):
    """Keys and values with room behind the filled part; `place`: (1,), where the next token is written.

    The room that the filled layer has made becomes this one's, where it is as long as needed.
    """

    def __init__(self, filled: Any, place: Tensor) -> None:
        super().__init__()
        self.lazy_initialization(filled.keys, filled.values)
        self._stored: tuple[Tensor, Tensor] = (filled.keys, filled.values)
        self._room: tuple[Tensor, Tensor] | None = None
        if isinstance(filled, RoomyLayer) and filled.whole_keys is not None and filled.whole_values is not None:
            self._room = filled.whole_keys, filled.whole_values
            filled.whole_keys = filled.whole_values = None
        self._place = place

    def grow(self, more: int) -> None:
        (keys, values), room, self._room = self._stored, self._room, None
        start = keys.shape[2]
        if room is None or room[0].shape[2] != start + more:
            pad = torch.nn.functional.pad
            self._stored = pad(keys, (0, 0, 0, more)), pad(values, (0, 0, 0, more))
            return
        for whole in room:
            whole[:, :, start:].zero_()  # old memory may hold NaN, which no mask hides
        self._stored = room

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = self._stored
        keys.index_copy_(2, self._place, key_states)
        values.index_copy_(2, self._place, value_states)
        return keys, values


@cache
def _stream(device: int) -> torch.cuda.Stream:
    """Of warm-ups and captures: one, for each stream of its own would keep a workspace of cuBLAS."""
    return torch.cuda.Stream(device)


def _on_another_stream(work: Callable[[], None]) -> None:
    """What a graph is captured from has run before, with the same kernels, on a stream that is not the default one."""
    stream = _stream(torch.cuda.current_device())
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), for_replay():
        work()
    torch.cuda.current_stream().wait_stream(stream)


_NOT_CAPTURED: WeakSet[Any] = WeakSet()  # models whose step no graph could hold
_ONE_CAPTURE = threading.Lock()


def _capture(work: Callable[[], None], model: Any) -> torch.cuda.CUDAGraph | None:
    """The work as a graph; it has not run yet. None, and a warning, where it does what a graph cannot hold."""
    graph, before, device = torch.cuda.CUDAGraph(), torch.cuda.current_stream(), torch.cuda.current_device()
    pool = torch.cuda.graph_pool_handle()
    # thread_local: other threads read images meanwhile
    capture = torch.cuda.graph(graph, pool, _stream(device), capture_error_mode="thread_local")
    try:
        with _ONE_CAPTURE, capture, for_replay():
            work()
    except Exception as error:
        torch.cuda.set_stream(before)  # torch leaves both as they were in the capture
        with suppress(Exception):
            torch._C._cuda_endAllocateToPool(device, pool)
        if isinstance(error, torch.OutOfMemoryError):
            raise
        _NOT_CAPTURED.add(model)
        cause = error.__context__ or error
        reason = f"{type(cause).__name__}: {str(cause).strip()}".partition("\n")[0]
        warnings.warn(f"answers are decoded without a CUDA graph, which is slower: {reason}", stacklevel=2)
        return None
    return graph


def _until(tokens: list[int], stops: frozenset[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    return tokens[:end]
