"""A worker of a warm group as an object, without Ray."""

from __future__ import annotations

import os
import pickle
from collections.abc import Generator

import pytest
import torch

from components.errors import UserError
from components.params import Training
from components.training.loop import memory_peak
from components.training.warm import Worker


def failing(error: Exception) -> Generator[None, None, None]:
    yield
    raise error


def validation_error() -> Exception:
    with pytest.raises(ValueError, match="validation error") as caught:
        Training.model_validate({})
    return caught.value


def test_a_library_s_error_reaches_the_caller_as_one_that_can_travel() -> None:
    worker = Worker()
    worker._run = failing(validation_error())
    assert worker.advance()
    with pytest.raises(RuntimeError, match="ValidationError: ") as caught:
        worker.advance()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the peak is of CUDA tensors")
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="a process cannot set its peak back here")
def test_the_memory_that_an_earlier_run_took_is_not_that_of_the_next() -> None:
    taken = bytearray(b"1" * 300_000_000)
    before = memory_peak()
    del taken
    with pytest.raises(RuntimeError, match="job"):
        Worker().begin({})
    assert memory_peak() < before - 200_000_000


@pytest.mark.parametrize("error", [UserError("the loss is nan"), OSError(28, "no space left")])
def test_mistakes_and_full_disks_stay_what_they_are(error: Exception) -> None:
    worker = Worker()
    worker._run = failing(error)
    worker.advance()
    with pytest.raises(type(error)):
        worker.advance()
